"""Rules of voting that are compared: each makes a list of grids, the best first, of one test output's ballot.

`counts` and `composite` are the package's own. No rule depends on the order of the views. What else was tried, and gained nothing, is in
`scripts/ablations/votes-rules.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from hrm_submit.arc.task import Grid
from hrm_submit.predict.vote import vote
from lab.votes.ballot import Ballot, key_of

Rule: TypeAlias = Callable[[Ballot], list[Grid]]


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


def stop_when_agreeing(ballot: Ballot) -> list[Grid]:
    """By counting what each view shows after the first ACT step that changed nothing, or after the last."""
    keys = [[None if p is None else key_of(p.grid) for p in step] for step in ballot.by_step]
    stops = [
        next((s for s in range(1, len(keys)) if keys[s][k] is not None and keys[s][k] == keys[s - 1][k]), len(keys) - 1)
        for k in range(len(ballot.scores))
    ]
    return _stopped(ballot, stops)


def stop_by_q(ballot: Ballot) -> list[Grid]:
    """By counting what each view shows after the first ACT step with a halt value above 0, or after the last."""
    above = ballot.scores.q_halt > 0
    return _stopped(ballot, np.where(above.any(axis=1), above.argmax(axis=1), ballot.scores.steps - 1).tolist())


RULES: dict[str, Rule] = {
    "counts": counts,
    "composite": composite_share,
    "experts": experts,
    "all steps": steps_pooled,
    "stop when agreeing": stop_when_agreeing,
    "stop by q": stop_by_q,
}


def _stopped(ballot: Ballot, stops: Sequence[int]) -> list[Grid]:
    shown = (ballot.by_step[stop][k] for k, stop in enumerate(stops))
    return [c.grid for c in vote(p for p in shown if p is not None)]
