"""All that the views of one test output say, with what several rules of voting derive from it, each derived once.

Notable: log-probabilities are un-augmented here, which lets grids be made that no view gave: the likeliest colour of each cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.augment import dihedral
from hrm_submit.arc.task import Grid
from hrm_submit.predict.composite import colours_of_cells
from hrm_submit.predict.rank import rank
from hrm_submit.predict.scores import ViewScores, join
from hrm_submit.predict.vote import Candidate, Prediction, pool, vote
from lab.votes.experts import Likelihoods, by_experts, likelihoods

Key: TypeAlias = tuple[tuple[int, ...], bytes]


class Ballot:
    """The views of one test output from one or more trainings, whose canvases are equal and whose ACT steps are as many.

    Rules look at the last step, and those of ACT at all of them. Raises ValueError where the trainings do not go together.
    """

    def __init__(self, trainings: Sequence[ViewScores]) -> None:
        self.trainings = tuple(trainings)
        self.scores = join(self.trainings)

    @cached_property
    def predictions(self) -> list[Prediction | None]:
        """What each view shows."""
        return self.scores.predictions()

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Distinct grids by the rule `counts`."""
        return vote(p for p in self.predictions if p is not None)

    @cached_property
    def grids(self) -> list[Grid]:
        """Those of `candidates`."""
        return [c.grid for c in self.candidates]

    @cached_property
    def experts(self) -> list[Candidate]:
        """Distinct grids by the product of experts, the trainings' weights pooled."""
        return pool(by_experts(rank(t, "counts"), t) for t in self.trainings)

    @cached_property
    def composite(self) -> list[Candidate]:
        """Candidates by the rule `composite`, the trainings pooled as a run pools them."""
        return pool(rank(t, "composite") for t in self.trainings)

    @cached_property
    def chosen(self) -> npt.NDArray[np.int64]:
        """The candidate that each view gave, (n,); -1 where it gave none."""
        places = {c.key: k for k, c in enumerate(self.candidates)}
        return np.array([-1 if p is None else places[key_of(p.grid)] for p in self.predictions], dtype=np.int64)

    @cached_property
    def finite(self) -> ViewScores:
        """The views whose numbers are finite."""
        return self.scores.finite()

    @cached_property
    def likelihoods(self) -> Likelihoods:
        """Of `grids`, under the views of `finite`."""
        return likelihoods(self.finite, self.grids)

    @cached_property
    def log_likelihood(self) -> list[float]:
        """Mean over views of each candidate's log-likelihood, nats a grid."""
        return _means(self.likelihoods.log_probs)

    @cached_property
    def log_likelihood_per_token(self) -> list[float]:
        """The same, of each view divided by the tokens that it scores."""
        return _means(self.likelihoods.log_probs / np.maximum(self.likelihoods.tokens, 1))

    @cached_property
    def cell_probability(self) -> npt.NDArray[np.float64]:
        """Of each view the mean probability of the cells of the grid that it shows, (n,); 0 where it shows none."""
        sure = np.exp(self.scores.last.max(-1)).reshape(-1, self.scores.side, self.scores.side)
        means = np.zeros(len(self.scores))
        for k, (view, prediction) in enumerate(zip(self.scores.views, self.predictions, strict=True)):
            if prediction is not None:
                (row, column), (rows, columns) = view.offset, dihedral(prediction.grid, view.dihedral).shape
                means[k] = sure[k, row : row + rows, column : column + columns].mean()
        return means

    @cached_property
    def by_step(self) -> list[list[Prediction | None]]:
        """What each view shows after each of the ACT steps."""
        return [self.scores.until(step).predictions() for step in range(1, self.scores.steps)] + [self.predictions]

    @cached_property
    def sizes(self) -> dict[tuple[int, ...], int]:
        """Views that show a grid of each shape, the best candidate's first among equals."""
        sizes: dict[tuple[int, ...], int] = {}
        for c in self.candidates:
            sizes[c.grid.shape] = sizes.get(c.grid.shape, 0) + c.votes
        return sizes

    def cells(self, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
        """Log-probabilities of the ten colours in each cell of a grid of `shape`, un-augmented, (views that can hold it, *shape, 10)."""
        return colours_of_cells(self.finite, shape)


def key_of(grid: Grid) -> Key:
    """Equal for equal grids only, and orderable."""
    return grid.shape, grid.tobytes()


def _means(by_view: npt.NDArray[np.float64]) -> list[float]:
    return [math.fsum(column) / max(1, len(by_view)) for column in by_view.T.tolist()]
