"""Grids that no view need have given: in each cell the colour that all views together find likeliest.

Notable: among the grids of one size this is the very one that the product of experts ranks first, the border apart, which all of
them share. Where many views each err in another cell it is right although none of them is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.augment import Augmentation, dihedral, inverse_dihedral
from hrm_submit.arc.canvas import FIRST_COLOUR
from hrm_submit.arc.task import N_COLOURS, Grid, make_grid
from hrm_submit.predict.scores import Floats, ViewScores
from hrm_submit.predict.vote import Candidate

MOST_SIZES = 4
"""Sizes of grid, the most voted first, for which one is made: a torn vote has dozens, and the rest never win."""


def with_composites(candidates: Sequence[Candidate], scores: ViewScores) -> list[Candidate]:
    """`candidates`, the best first, and for each of their sizes the likeliest grid, with 0 votes, where no view gave it.

    Its `score` is the mean over cells and over the views that can hold it (nats). Views with numbers that are not finite are the
    caller's to leave out.
    """
    votes: dict[tuple[int, int], int] = {}
    for c in candidates:
        shape = (c.grid.shape[0], c.grid.shape[1])
        votes[shape] = votes.get(shape, 0) + c.votes
    known, made = {c.key for c in candidates}, []
    for shape in sorted(votes, key=lambda s: -votes[s])[:MOST_SIZES]:
        cells = colours_of_cells(scores, shape)
        if not len(cells):
            continue
        grid = composite(cells)
        sure = np.take_along_axis(cells, grid[None, ..., None].astype(np.int64), axis=-1)
        made.append(Candidate(grid, 0, float(np.sort(sure, axis=None).mean())))
    return [*candidates, *(c for c in made if c.key not in known)]


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
