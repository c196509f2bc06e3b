"""Counting, and a share of the votes for the composite: the grid that all views make together, whether or not one of them gave it.

Notable: in each cell it has the colour of the highest mean probability over views (soft voting, cell by cell; un-augmented, as the
views' cells lie elsewhere). Where many views each err in another cell it is right although none of them is; where two candidates
have as many votes it says which of them the others are nearer to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.augment import Augmentation, dihedral, inverse_dihedral
from hrm_submit.arc.canvas import FIRST_COLOUR
from hrm_submit.arc.task import N_COLOURS, Grid, make_grid
from hrm_submit.predict.scores import Floats, ViewScores
from hrm_submit.predict.vote import Candidate, ranked

SHARE = 0.1
"""Votes that the composite gets beside its own, as a part of all votes: on saved votes of held-out tasks 0.05 to 0.2 did alike."""


def with_composite(candidates: Sequence[Candidate], scores: ViewScores) -> list[Candidate]:
    """The `candidates` of one vote (best first) and the composite in the size of the first, best first by votes and its share.

    Where no view gave the composite it joins them with 0 votes, its `score` the mean log-probability of its cells over views (nats).
    Views whose numbers are not finite, or whose canvas cannot hold that size, make no part of it; where none is left the candidates
    stay as they are.
    """
    if not candidates:
        return []
    best, votes = candidates[0].grid, sum(c.votes for c in candidates)
    cells = colours_of_cells(scores.finite(), (best.shape[0], best.shape[1]))
    if not len(cells):
        return list(candidates)
    grid = composite(np.exp(cells))
    sure = np.take_along_axis(cells, grid[None, ..., None].astype(np.int64), axis=-1)
    made = Candidate(grid, 0, math.fsum(sure.ravel().tolist()) / sure.size)
    pooled = [*candidates] if made.key in {c.key for c in candidates} else [*candidates, made]
    return ranked(replace(c, weight=c.votes + SHARE * votes * (c.key == made.key)) for c in pooled)


def colours_of_cells(scores: ViewScores, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Log-probabilities, after the last step, of the ten colours in each cell of an un-augmented grid of `shape`: (views that can
    hold one, *shape, 10)."""
    both = zip(scores.views, scores.last, strict=True)
    found = [unaugmented(view, cells, scores.side, shape) for view, cells in both if holds(view, scores.side, shape)]
    return np.array(found, dtype=np.float64).reshape(-1, *shape, N_COLOURS)


def holds(view: Augmentation, side: int, shape: tuple[int, int]) -> bool:
    """Whether a grid of `shape` (un-augmented) fits the canvas of a view."""
    rows, columns = dihedral(np.zeros(shape, dtype=np.uint8), view.dihedral).shape
    return view.offset[0] + rows <= side and view.offset[1] + columns <= side


def unaugmented(view: Augmentation, log_probs: Floats, side: int, shape: tuple[int, int]) -> Floats:
    """What a view's canvas (side * side, vocabulary) says of each cell of an un-augmented grid of `shape`: (*shape, 10), by colour.

    The canvas must hold such a grid.
    """
    rows, columns = dihedral(np.zeros(shape, dtype=np.uint8), view.dihedral).shape
    top, left = view.offset
    region = log_probs.reshape(side, side, -1)[top : top + rows, left : left + columns, FIRST_COLOUR : FIRST_COLOUR + N_COLOURS]
    # The transform moves whole cells: it is undone on their numbers, as only grids can be turned.
    places = dihedral(np.arange(rows * columns).reshape(rows, columns), inverse_dihedral(view.dihedral))
    return region.reshape(rows * columns, N_COLOURS)[places][..., list(view.colours)]


def composite(log_probs: npt.NDArray[np.float64]) -> Grid:
    """The colour of the highest sum over views in each cell; `log_probs` (views, rows, columns, 10) or probabilities."""
    # Sorted, as a sum's last bits depend on the order of its terms, and ties do happen.
    return make_grid(np.sort(log_probs, axis=0).sum(axis=0).argmax(-1))
