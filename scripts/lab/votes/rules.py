"""Rules of voting that are compared: each makes a list of grids, the best first, of one test output's ballot.

`counts` and `composite` are the package's own. No rule depends on the order of the views. What else was tried, and gained nothing, is in
`scripts/ablations/votes-rules.md`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from hrm_submit.arc.task import Grid
from hrm_submit.core.errors import ConfigError, clipped
from hrm_submit.predict.halting import first_rest
from hrm_submit.predict.vote import pool, vote
from lab.votes.ballot import Ballot, key_of

Rule: TypeAlias = Callable[[Ballot], list[Grid]]
Stops: TypeAlias = npt.NDArray[np.intp]


def counts(ballot: Ballot) -> list[Grid]:
    """By votes, then by the mean log-probability of the cells under the views that gave the grid."""
    return ballot.grids


def composite_share(ballot: Ballot) -> list[Grid]:
    """By votes, a tenth more of them for the grid of the highest mean probabilities; of several trainings these votes add up."""
    return [c.grid for c in ballot.composite]


def experts(ballot: Ballot) -> list[Grid]:
    """By the mean over all views of the grid's log-likelihood; of several trainings the weights add up."""
    return [c.grid for c in ballot.experts]


def steps_pooled(ballot: Ballot) -> list[Grid]:
    """By votes, of which each view has one after every ACT step."""
    return [c.grid for c in vote(p for step in ballot.by_step for p in step if p is not None)]


def unchanged(ballot: Ballot) -> Stops:
    """The first ACT step whose grid is that of the step before."""
    keys = np.array([[-1 if p is None else hash(key_of(p.grid)) for p in step] for step in ballot.by_step]).T
    return _first((keys[:, 1:] == keys[:, :-1]) & (keys[:, 1:] != -1), 1, ballot)


def at_rest(ballot: Ballot) -> Stops:
    """The first ACT step whose entropy is that of the step before, as `[vote] halt = "rest"` ends a view."""
    return first_rest(torch.from_numpy(ballot.scores.log_probs)).numpy()


def halting(ballot: Ballot) -> Stops:
    """The first ACT step with a halt value above 0."""
    return _first(ballot.scores.q_halt > 0, 0, ballot)


STOPS: dict[str, Callable[[Ballot], Stops]] = {"stop when unchanged": unchanged, "stop at rest": at_rest, "stop by q": halting}
"""Rules of ACT: after which step (from 0) each view stops; the last where none of its steps says so. Their votes rank as `composite`."""


def _stopped(stop: Callable[[Ballot], Stops], ballot: Ballot) -> list[Grid]:
    """By `composite`, of what each view says after the step at which it stops."""
    stops = stop(ballot)
    return [c.grid for c in Ballot([t.at(stops[part]) for t, part in ballot.parts()]).composite]


RULES: dict[str, Rule] = {
    "counts": counts,
    "composite": composite_share,
    "experts": experts,
    "all steps": steps_pooled,
    **{name: partial(_stopped, stop) for name, stop in STOPS.items()},
}


def own_rule(path: Path) -> Rule:
    """The rule of a person's own file: its function `rule` takes the ViewScores of one training and returns candidates, best first; the
    weights of several trainings add up. Runs the file. Raises ConfigError where it has none."""
    spec = importlib.util.spec_from_file_location(path.stem, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise ConfigError(f"--own {path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"--own {path}: {type(error).__name__}: {clipped(error, 200)}") from error
    own = getattr(module, "rule", None)
    if not callable(own):
        raise ConfigError(f"--own {path}: has no function called rule")
    return lambda ballot: [c.grid for c in pool(own(training) for training in ballot.trainings)]


def steps_taken(rule: str, ballot: Ballot) -> float:
    """ACT steps of a view, on average, by which `rule` answers."""
    return float(STOPS[rule](ballot).mean() + 1) if rule in STOPS else float(ballot.scores.steps)


def _first(says: npt.NDArray[np.bool_], begin: int, ballot: Ballot) -> Stops:
    """For each view the first step of those that `says` (views, steps from `begin`) marks, or the last."""
    return np.where(says.any(axis=1), says.argmax(axis=1) + begin, ballot.scores.steps - 1) if says.size else np.zeros(len(says), np.intp)
