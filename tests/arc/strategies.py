"""Random grids, tasks and augmentations, and a plain numpy canvas to hold the compiled one against."""

import numpy as np
from hypothesis import strategies as st

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.canvas import EOS, FIRST_COLOUR, PAD
from hrm_submit.arc.task import MAX_SIDE, Grid, Pair, Task, make_grid


def grids(max_side: int = 30) -> st.SearchStrategy[Grid]:
    sides = st.integers(1, max_side)
    return st.builds(
        lambda rows, columns, seed: make_grid(np.random.default_rng(seed).integers(0, 10, (rows, columns))),
        sides,
        sides,
        st.integers(0, 2**32 - 1),
    )


def pairs(max_side: int = 30) -> st.SearchStrategy[Pair]:
    return st.builds(Pair, grids(max_side), grids(max_side))


def tasks(max_side: int = 30) -> st.SearchStrategy[Task]:
    return st.builds(
        Task,
        st.text(min_size=1, max_size=8),
        st.lists(pairs(max_side), min_size=1, max_size=3).map(tuple),
        st.lists(grids(max_side), min_size=1, max_size=2).map(tuple),
    )


augmentations = st.builds(
    lambda dihedral, colours: Augmentation(dihedral, tuple(colours)), st.integers(0, 7), st.permutations(list(range(10)))
)


def plain_canvas(grid: Grid, offset: tuple[int, int], side: int) -> np.ndarray:
    """The published layout on the full canvas, cut to its top left `side` rows and columns."""
    full = np.full((MAX_SIDE + 1, MAX_SIDE + 1), PAD)
    (top, left), (rows, columns) = offset, grid.shape
    full[top : top + rows, left : left + columns] = grid + FIRST_COLOUR
    full[top + rows, left : left + columns] = EOS
    full[top : top + rows, left + columns] = EOS
    return full[:side, :side]
