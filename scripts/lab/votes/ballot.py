"""All that the views of one test output say, with what several rules of voting derive from it, each derived once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TypeAlias

from hrm_submit.arc.task import Grid
from hrm_submit.predict.rank import rank
from hrm_submit.predict.scores import ViewScores, join
from hrm_submit.predict.vote import Candidate, Prediction, pool, vote
from lab.votes.experts import by_experts

Key: TypeAlias = tuple[tuple[int, ...], bytes]


class Ballot:
    """The views of one test output from one or more trainings, whose canvases are equal and whose ACT steps are as many.

    Rules look at the last step, and those of ACT at all of them. Raises ValueError where the trainings do not go together.
    """

    def __init__(self, trainings: Sequence[ViewScores]) -> None:
        self.trainings = tuple(trainings)
        self.scores = join(self.trainings)

    @cached_property
    def grids(self) -> list[Grid]:
        """Distinct grids by the rule `counts`."""
        return [c.grid for c in vote(p for p in self.by_step[-1] if p is not None)]

    @cached_property
    def experts(self) -> list[Candidate]:
        """Distinct grids by the product of experts, the trainings' weights pooled."""
        return pool(by_experts(rank(t, "counts"), t) for t in self.trainings)

    @cached_property
    def composite(self) -> list[Candidate]:
        """Candidates by the rule `composite`, the trainings pooled as a run pools them."""
        return pool(rank(t, "composite") for t in self.trainings)

    def parts(self) -> Iterator[tuple[ViewScores, slice]]:
        """The trainings, each with the numbers of its views."""
        start = 0
        for training in self.trainings:
            yield training, slice(start, start + len(training))
            start += len(training)

    @cached_property
    def by_step(self) -> list[list[Prediction | None]]:
        """What each view shows after each of the ACT steps."""
        return [self.scores.until(step).predictions() for step in range(1, self.scores.steps + 1)]


def key_of(grid: Grid) -> Key:
    """Equal for equal grids only, and orderable."""
    return grid.shape, grid.tobytes()
