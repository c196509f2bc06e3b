"""Rules of voting that were tried: each makes a list of grids, the best first, of one test output's ballot.

`counts` and `composite` are the package's own. A rule that orders candidates leaves the order of counting between equals, which in
the end is that of shapes and cells, so that no rule depends on the order of the views.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np

from hrm_submit.arc.task import Grid
from hrm_submit.predict.composite import composite
from hrm_submit.predict.vote import vote
from lab.votes.ballot import Ballot, Key, key_of

Rule: TypeAlias = Callable[[Ballot], list[Grid]]

CLUSTER = 0.1
"""Grids of one shape are of one cluster if at most this part of their cells differs."""
CONTESTED = 0.25
"""Another size than the winning one is worth the second attempt where this part of the views shows it."""


def counts(ballot: Ballot) -> list[Grid]:
    """By votes, then by the mean log-probability of the cells under the views that gave the grid."""
    return ballot.grids


def composite_share(ballot: Ballot) -> list[Grid]:
    """By votes, a tenth more of them for the grid of the highest mean probabilities; of several trainings these votes add up."""
    return [c.grid for c in ballot.composite]


def experts(ballot: Ballot) -> list[Grid]:
    """By the mean over all views of the grid's log-likelihood; of several trainings the weights add up."""
    return [c.grid for c in ballot.experts]


def experts_jointly(ballot: Ballot) -> list[Grid]:
    """The same, with the views of all trainings as if they were one's."""
    return _by(ballot, ballot.log_likelihood)


def experts_per_token(ballot: Ballot) -> list[Grid]:
    """By the log-likelihood of a token: a large grid loses nothing by its size."""
    return _by(ballot, ballot.log_likelihood_per_token)


def q_weighted(ballot: Ballot) -> list[Grid]:
    """By votes, each worth the probability of being right that the halt value stands for."""
    return _by_voters(ballot, _sigmoid(ballot.scores.q_halt[:, -1]))


def confidence_weighted(ballot: Ballot) -> list[Grid]:
    """By votes, each worth the mean probability of its cells."""
    return _by_voters(ballot, ballot.cell_probability)


def cell_probability(ballot: Ballot) -> list[Grid]:
    """By the mean probability of the cells, however many views gave the grid."""
    n = [c.votes for c in ballot.candidates]
    return _by(ballot, [total / k for total, k in zip(_weights(ballot, ballot.cell_probability), n, strict=True)])


def counts_then_experts(ballot: Ballot) -> list[Grid]:
    """By votes, then by likelihood."""
    order = sorted(range(len(ballot.grids)), key=lambda k: (-ballot.candidates[k].votes, -ballot.log_likelihood[k]))
    return [ballot.grids[k] for k in order]


def mixed(temperature: float) -> Rule:
    """By log(votes) + mean log-likelihood / `temperature` (nats)."""

    def rule(ballot: Ballot) -> list[Grid]:
        pairs = zip(ballot.candidates, ballot.log_likelihood, strict=True)
        return _by(ballot, [math.log(c.votes) + found / temperature for c, found in pairs])

    return rule


def size_first(rule: Rule) -> Rule:
    """Grids of the size that most views show, by `rule`, before all others."""

    def sized(ballot: Ballot) -> list[Grid]:
        wanted = max(ballot.sizes, key=lambda shape: ballot.sizes[shape], default=None)
        return sorted(rule(ballot), key=lambda g: g.shape != wanted)

    return sized


def step_agreement(ballot: Ballot) -> list[Grid]:
    """By votes, each worth the share of the ACT steps at which its view showed the same grid."""
    keys = [[None if p is None else key_of(p.grid) for p in step] for step in ballot.by_step]
    return _by_voters(ballot, np.array([np.mean([step[k] == keys[-1][k] for step in keys]) for k in range(len(ballot.scores))]))


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


def then(first: Rule, second: Rule) -> Rule:
    """The best grid of one rule, and as second attempt the best other one of another."""

    def both(ballot: Ballot) -> list[Grid]:
        return _distinct([*first(ballot)[:1], *second(ballot), *first(ballot)])

    return both


def composed(ballot: Ballot) -> list[Grid]:
    """In the size of the best candidate, the colour of the highest mean probability in each cell; then the candidates by counting."""
    if not ballot.grids:
        return []
    cells = ballot.cells((ballot.grids[0].shape[0], ballot.grids[0].shape[1]))
    return _distinct([composite(np.exp(cells)), *ballot.grids]) if len(cells) else ballot.grids


def other_size(ballot: Ballot) -> list[Grid]:
    """The second attempt goes to the best candidate of the size that comes second, where a quarter of the views shows that."""
    order, views = ballot.grids, sum(ballot.sizes.values())
    rest = [(n, shape) for shape, n in ballot.sizes.items() if shape != order[0].shape] if order else []
    n, shape = max(rest, key=lambda pair: pair[0], default=(0, ()))
    if not rest or n < CONTESTED * views:
        return order
    return _distinct([order[0], next(g for g in order if g.shape == shape), *order])


def other_cluster(ballot: Ballot) -> list[Grid]:
    """The second attempt goes to the best of the cluster of similar grids that has most votes, without the first one's."""
    clusters: list[tuple[Grid, list[int]]] = []
    for c in ballot.candidates:
        home = next((votes for leader, votes in clusters if _distance(leader, c.grid) <= CLUSTER), None)
        if home is None:
            clusters.append((c.grid, [c.votes]))
        else:
            home.append(c.votes)
    order = sorted(clusters[1:], key=lambda cluster: -sum(cluster[1]))
    return _distinct([*ballot.grids[:1], *(leader for leader, _ in order), *ballot.grids])


def torn(ballot: Ballot) -> list[Grid]:
    """The second attempt goes to the candidate of the first's size that differs from it where views are most torn: by the mean
    entropy, over the cells that differ, of what the views show there."""
    if not ballot.grids:
        return []
    first = ballot.grids[0]
    alike = [c for c in ballot.candidates if c.grid.shape == first.shape]
    shares = np.zeros((*first.shape, 10))
    for c in alike:
        np.put_along_axis(shares, c.grid[..., None].astype(np.int64), _at(shares, c.grid) + c.votes, axis=-1)
    shares /= shares.sum(-1, keepdims=True)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(-1)
    best = max((c.grid for c in alike[1:]), key=lambda g: float(entropy[g != first].mean()), default=first)
    return _distinct([first, best, *ballot.grids])


RULES: dict[str, Rule] = {
    "counts": counts,
    "composite": composite_share,
    "experts": experts,
    "experts, trainings jointly": experts_jointly,
    "experts per token": experts_per_token,
    "q-weighted": q_weighted,
    "confidence-weighted": confidence_weighted,
    "cell probability": cell_probability,
    "counts, ties by experts": counts_then_experts,
    "log votes + experts": mixed(1.0),
    "log votes + experts / 10": mixed(10.0),
    "size, counts": size_first(counts),
    "size, experts": size_first(experts),
    "step agreement": step_agreement,
    "all steps": steps_pooled,
    "stop when agreeing": stop_when_agreeing,
    "stop by q": stop_by_q,
    "counts | experts": then(counts, experts),
    "experts | counts": then(experts, counts),
    "counts | composed": then(counts, composed),
    "counts | other size": other_size,
    "counts | other cluster": other_cluster,
    "counts | torn": torn,
}
"""`a | b`: the first attempt by a, the second by b."""


def _by(ballot: Ballot, weights: Sequence[float]) -> list[Grid]:
    """Candidates by weight; equals as in counting."""
    return [ballot.grids[k] for k in sorted(range(len(weights)), key=lambda k: -weights[k])]


def _weights(ballot: Ballot, of_views: np.ndarray) -> list[float]:
    """Of each candidate, the sum over the views that gave it."""
    return [math.fsum(of_views[ballot.chosen == k].tolist()) for k in range(len(ballot.grids))]


def _by_voters(ballot: Ballot, of_views: np.ndarray) -> list[Grid]:
    return _by(ballot, _weights(ballot, of_views))


def _stopped(ballot: Ballot, stops: Sequence[int]) -> list[Grid]:
    shown = (ballot.by_step[stop][k] for k, stop in enumerate(stops))
    return [c.grid for c in vote(p for p in shown if p is not None)]


def _distinct(grids: Iterable[Grid]) -> list[Grid]:
    found: dict[Key, Grid] = {}
    for grid in grids:
        found.setdefault(key_of(grid), grid)
    return list(found.values())


def _distance(a: Grid, b: Grid) -> float:
    """Share of cells that differ; 1 between shapes."""
    return float((a != b).mean()) if a.shape == b.shape else 1.0


def _at(shares: np.ndarray, grid: Grid) -> np.ndarray:
    return np.take_along_axis(shares, grid[..., None].astype(np.int64), axis=-1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x.astype(np.float64))))
