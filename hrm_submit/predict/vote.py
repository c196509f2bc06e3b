"""Group equal predictions, rank them, keep two (pass@2).

The rank of a grid is its number of votes, or what another rule believes instead; between equals, its mean confidence; between
equals again, its shape and cells, so that the result never depends on the order in which predictions arrive.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from hrm_submit.arc.task import Grid


@dataclass(frozen=True)
class Prediction:
    """One view's answer, un-augmented: the grid and the mean log-probability (nats per cell, at most 0) of its cells."""

    grid: Grid
    log_probability: float


@dataclass(frozen=True)
class Candidate:
    """One distinct grid: how many views gave it, and the mean of their log-probabilities (of all views where none gave it)."""

    grid: Grid
    votes: int
    score: float
    belief: float | None = None
    """Votes that a rule other than counting gives it, not always whole ones; None where it has what it counts."""

    @property
    def weight(self) -> float:
        """What ranks it, and adds up over several votes."""
        return self.votes if self.belief is None else self.belief

    @property
    def key(self) -> tuple[tuple[int, ...], bytes]:
        """Equal for equal grids only, and orderable."""
        return self.grid.shape, self.grid.tobytes()


def vote(predictions: Iterable[Prediction]) -> list[Candidate]:
    """Distinct grids, best first; empty where there are no predictions. Independent of the predictions' order."""
    groups: dict[tuple[tuple[int, ...], bytes], list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault((prediction.grid.shape, prediction.grid.tobytes()), []).append(prediction)
    # fsum is exact, so the mean does not depend on the order of its terms.
    candidates = [
        Candidate(group[0].grid, len(group), math.fsum(p.log_probability for p in group) / len(group)) for group in groups.values()
    ]
    return ranked(candidates)


def pool(votes: Iterable[Iterable[Candidate]]) -> list[Candidate]:
    """The candidates of several votes on one output as if all their predictions had been in one, best first.

    Beliefs add up as votes do: each vote has as many to give as it had views, and none for a candidate that is not its own.
    """
    groups: dict[tuple[tuple[int, ...], bytes], list[Candidate]] = {}
    for candidates in votes:
        for candidate in candidates:
            groups.setdefault(candidate.key, []).append(candidate)
    pooled = []
    for group in groups.values():
        n = sum(c.votes for c in group)
        # A grid that no view gave has no votes to weigh its scores by.
        score = math.fsum(c.votes * c.score for c in group) / n if n else math.fsum(c.score for c in group) / len(group)
        counted = all(c.belief is None for c in group)
        pooled.append(Candidate(group[0].grid, n, score, None if counted else math.fsum(c.weight for c in group)))
    return ranked(pooled)


def ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Best first: by weight, votes, score, then shape and cells."""
    return sorted(candidates, key=_rank)


def two_attempts(candidates: Iterable[Candidate], fallback: tuple[Grid, Grid]) -> tuple[Grid, Grid]:
    """The two best candidates, filled up from `fallback` by what differs from the first."""
    grids = [c.grid for c in candidates][:2]
    for spare in fallback:
        if len(grids) < 2 and not any(_same(spare, g) for g in grids):
            grids.append(spare)
    while len(grids) < 2:
        grids.append(grids[0] if grids else fallback[0])
    return grids[0], grids[1]


def _rank(candidate: Candidate) -> tuple[float, int, float, tuple[tuple[int, ...], bytes]]:
    return -candidate.weight, -candidate.votes, -candidate.score, candidate.key


def _same(a: Grid, b: Grid) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()
