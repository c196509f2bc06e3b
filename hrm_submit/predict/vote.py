"""Group equal predictions, rank them, keep two (pass@2).

A grid ranks by its weight (its number of votes, unless a rule gives another), then by its mean confidence, then by its shape and
cells, so that the result never depends on the order of predictions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from hrm_submit.arc.jsonio import FaultError, parse_grid
from hrm_submit.arc.task import Grid, same_grid

MOST = 1e15
"""No number of votes or score is as large; JSON may hold more, which would only break arithmetic."""


@dataclass(frozen=True)
class Candidate:
    """One distinct grid, un-augmented: how many views gave it, and the mean log-probability of its cells over them (nats a cell; over
    all views where none gave it). One view's prediction is a candidate of one vote."""

    grid: Grid
    votes: int
    score: float
    weight: float = math.nan
    """Ranks it, and adds up over several votes; its votes by default."""

    def __post_init__(self) -> None:
        if math.isnan(self.weight):
            object.__setattr__(self, "weight", float(self.votes))

    def to_json(self) -> dict[str, Any]:
        """Make the JSON that a run folder keeps."""
        return {"grid": self.grid.tolist(), "votes": self.votes, "score": round(self.score, 6), "weight": round(self.weight, 6)}

    @classmethod
    def from_json(cls, value: Any) -> Candidate:
        """Undo `to_json`; without a weight (runs of earlier versions) votes rank it. Raises FaultError."""
        try:
            grid, votes, score = parse_grid(value["grid"], "grid"), int(value["votes"]), float(value["score"])
            weight = float(value.get("weight", votes))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise error if isinstance(error, FaultError) else FaultError(f"not a candidate: {error!r}") from None
        if not (0 <= votes <= MOST and abs(score) <= MOST and abs(weight) <= MOST):
            raise FaultError("votes, a score or a weight that no vote gives")
        return cls(grid, votes, score, weight)

    @property
    def key(self) -> tuple[tuple[int, ...], bytes]:
        """Equal for equal grids only, and orderable."""
        return self.grid.shape, self.grid.tobytes()


Outputs: TypeAlias = tuple[tuple[Candidate, ...], ...]
"""The candidates of each test output, best first."""


def vote(predictions: Iterable[Candidate]) -> list[Candidate]:
    """Group the predictions of single views into distinct grids, best first, independent of their order."""
    return pool([predictions])


def pool(votes: Iterable[Iterable[Candidate]]) -> list[Candidate]:
    """Pool the candidates of several votes on one output, best first; votes and weights add up."""
    groups: dict[tuple[tuple[int, ...], bytes], list[Candidate]] = {}
    for candidates in votes:
        for candidate in candidates:
            groups.setdefault(candidate.key, []).append(candidate)
    pooled = []
    for group in groups.values():
        n = sum(c.votes for c in group)
        # fsum is exact, so that the order of terms does not matter; a grid that no view gave has no votes to weigh its scores by
        score = math.fsum(c.votes * c.score for c in group) / n if n else math.fsum(c.score for c in group) / len(group)
        pooled.append(Candidate(group[0].grid, n, score, math.fsum(c.weight for c in group)))
    return ranked(pooled)


def pooled(before: Outputs, vote: Outputs) -> Outputs:
    """Pool each output of two votes on one task; `before` may be ()."""
    return tuple(tuple(pool(both)) for both in zip(before, vote, strict=True)) if before else vote


def first_attempts(outputs: Outputs) -> list[object]:
    """Return what identifies the best candidate of each output that has one."""
    return [c.key for candidates in outputs for c in candidates[:1]]


def ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sort by weight, votes, score, then shape and cells, best first."""
    return sorted(candidates, key=lambda c: (-c.weight, -c.votes, -c.score, c.key))


def two_attempts(candidates: Iterable[Candidate], fallback: tuple[Grid, Grid]) -> tuple[Grid, Grid]:
    """Take the two best candidates, filled up from `fallback` by what differs from the first."""
    grids = [c.grid for c in candidates][:2]
    for spare in fallback:
        if len(grids) < 2 and not any(same_grid(spare, grid) for grid in grids):
            grids.append(spare)
    return grids[0], grids[-1]
