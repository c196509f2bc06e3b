"""The baselines: what published HRM does, in plain numpy or with this package's model as published.

The rule of its data set: a dihedral transform, a permutation of the colours 1-9, both grids at one random place on a 30x30
canvas, EOS along the row below and the column right of each as far as the grid goes, and 900 tokens a grid whatever its size.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.task import Pair
from hrm_submit.config.schema import Preset

SIDE = 30
ACT_STEPS = 16

Grid = npt.NDArray[np.uint8]


def transform(grid: Grid, number: int) -> Grid:
    """The dihedral transform `number`, 0..7."""
    if number < 4:
        return np.rot90(grid, number)
    return [np.fliplr, np.flipud, np.transpose, lambda g: np.fliplr(np.rot90(g))][number - 4](grid)  # type: ignore[operator]


def placed(grid: Grid, top: int, left: int) -> Grid:
    """`grid` as 900 tokens, with its first cell at (top, left)."""
    rows, columns = grid.shape
    canvas = np.pad(grid + 2, ((top, SIDE - top - rows), (left, SIDE - left - columns)))
    if top + rows < SIDE:
        canvas[top + rows, left : left + columns] = 1
    if left + columns < SIDE:
        canvas[top : top + rows, left + columns] = 1
    return canvas.flatten()


def augmented(pair: Pair, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """A pair under a random augmentation, as tokens."""
    number = int(rng.integers(0, 8))
    colours = np.concatenate([np.zeros(1, dtype=np.uint8), rng.permutation(np.arange(1, 10, dtype=np.uint8))])
    given, wanted = (transform(colours[grid], number) for grid in (pair.input, pair.output))
    rows, columns = max(given.shape[0], wanted.shape[0]), max(given.shape[1], wanted.shape[1])
    top, left = int(rng.integers(0, SIDE - rows + 1)), int(rng.integers(0, SIDE - columns + 1))
    return placed(given, top, left), placed(wanted, top, left)


def exact(preset: Preset) -> Preset:
    """`preset` as published HRM trains: a continue target by a second forward, up to 16 segments a sequence, its optimizer. The sizes
    of the model and its cycles stay."""
    model = replace(preset.model, continue_target=True, halt_max_steps=ACT_STEPS, halt_exploration_prob=0.1)
    return replace(preset, model=model, ttt=replace(preset.ttt, optimizer="adam_atan2", segments=ACT_STEPS, ema=0.0))
