"""Grids as the tokens that the model reads, and back: the published 30x30 layout, or any smaller square of it.

A cropped canvas of `side` keeps the position ids of the full one (row * 30 + column), so that one set of weights serves every crop.
One compiled pass over a batch transforms, recolours, places and draws borders; nothing augmented is stored. Tokens beyond the border
are untrained noise, so decoding looks for a rectangle in the top left corner only: only training places grids elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.augment import DIHEDRAL, Augmentation, augmentation_arrays
from hrm_submit.arc.task import MAX_SIDE, N_COLOURS, NO_GRID, Grid, Pair, make_grid
from hrm_submit.config.schema import ModelConfig
from hrm_submit.core.errors import ConfigError
from hrm_submit.core.numba_cache import kernel

PAD = 0
EOS = 1
FIRST_COLOUR = 2

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Integers: TypeAlias = npt.NDArray[np.integer]
Tokens: TypeAlias = Bytes
"""Token ids, shape (B, side * side), row by row."""


def check_model(model: ModelConfig, source: str) -> None:
    """Raise ConfigError, naming `source`, unless the model has a position for each cell of every canvas and knows every token."""
    for key, least in (("seq_len", MAX_SIDE**2), ("vocab_size", FIRST_COLOUR + N_COLOURS)):
        if getattr(model, key) < least:
            raise ConfigError(f"{source}: [model] {key} = {getattr(model, key)} is too small for ARC's grids, which need {least}")


def position_ids(side: int) -> Ints:
    """Return the position ids (side * side,) of a canvas of `side`: row * 30 + column."""
    rows, columns = np.divmod(np.arange(side * side), side)
    return rows * MAX_SIDE + columns


@dataclass(frozen=True, eq=False)
class PackedPairs:
    """Grids of n pairs end to end, for compiled code."""

    cells: Bytes
    """All cells, (total,)."""
    starts: Ints
    """Where the cells of each input and of each output start, (n, 2)."""
    shapes: Ints
    """Input rows, input columns, output rows, output columns, (n, 4)."""

    @staticmethod
    def from_pairs(pairs: Sequence[Pair]) -> PackedPairs:
        """Pack pairs; where the output is `NO_GRID` all its labels will be PAD."""
        grids = [grid for pair in pairs for grid in (pair.input, pair.output)]
        shapes = np.array([grid.shape for grid in grids], dtype=np.int64).reshape(-1, 2)
        sizes = shapes.prod(axis=1)
        cells = np.concatenate([np.zeros(0, dtype=np.uint8), *(grid.ravel() for grid in grids)])
        return PackedPairs(cells, (np.cumsum(sizes) - sizes).reshape(-1, 2), shapes.reshape(-1, 4))

    def __len__(self) -> int:
        return len(self.shapes)


def encode(
    packed: PackedPairs,
    index: Integers,
    dihedral: Integers,
    colours: Integers,
    side: int,
    offsets: Integers | None = None,
) -> tuple[Tokens, Tokens]:
    """Encode inputs and labels, each (B, side * side), of B augmented examples.

    Example b is pair `index[b]` (B,) under transform `dihedral[b]` (B,), recoloured by `colours[b]` (B, 10; new = colours[old]), the top
    left cells of input and output at (row, column) `offsets[b]` (B, 2), or (0, 0). The row below a grid and the column to its right hold
    EOS where the canvas has room; the corner between them and the rest hold PAD. Raises ValueError for arguments outside their range, and
    if a grid does not fit the canvas at its place.
    """
    b = len(index)
    placed = np.zeros((b, 2), dtype=np.int64) if offsets is None else offsets
    at, transforms, corners = (np.ascontiguousarray(array, dtype=np.int64) for array in (index, dihedral, placed))
    tables = np.ascontiguousarray(colours, dtype=np.uint8)
    if transforms.shape != (b,) or tables.shape != (b, N_COLOURS) or corners.shape != (b, 2):
        raise ValueError(f"dihedral {transforms.shape}, colours {tables.shape}, offsets {corners.shape} do not go with index ({b},)")
    # compiled code checks no bounds itself
    below = min(array.min(initial=0) for array in (at, transforms, corners)) < 0
    if below or not 1 <= side <= MAX_SIDE or (at >= len(packed)).any() or (transforms > 7).any() or (tables >= N_COLOURS).any():
        raise ValueError("index, dihedral, colours, offset or side is out of range")
    if (corners + _extents(packed, at, transforms) > side).any():
        raise ValueError(f"a grid does not fit a canvas of side {side} at its place")
    tokens = np.empty((2, b, side * side), dtype=np.uint8)
    _fill(packed.cells, packed.starts, packed.shapes, at, transforms, tables, corners, side, tokens)
    return tokens[0], tokens[1]


def encode_inputs(grids: Sequence[Grid], augmentations: Sequence[Augmentation], side: int) -> Tokens:
    """Encode `grids[b]` under `augmentations[b]` as tokens (B, side * side). Raises as `encode` does."""
    packed = PackedPairs.from_pairs([Pair(grid, NO_GRID) for grid in grids])
    return encode(packed, np.arange(len(grids)), *augmentation_arrays(augmentations), side)[0]


def decode(tokens: Integers, side: int) -> list[Grid | None]:
    """Decode the grid that each row of `tokens` (B, side * side) shows.

    It is the largest rectangle of colours in the top left corner, ended by PAD, EOS or the canvas; of two as large the taller.
    None where the first cell holds no colour. Colours are as the model sees them: undo the augmentation with `invert`.
    """
    grids: list[Grid | None] = []
    for cells in tokens.reshape(len(tokens), side, side):
        coloured = (cells >= FIRST_COLOUR) & (cells < FIRST_COLOUR + N_COLOURS)
        widths = np.minimum.accumulate(np.logical_and.accumulate(coloured, axis=1).sum(axis=1))
        areas = widths * np.arange(1, len(widths) + 1)
        rows = len(areas) - int(areas[::-1].argmax())
        grids.append(make_grid(cells[:rows, : widths[rows - 1]] - FIRST_COLOUR) if widths[0] else None)
    return grids


def sample_offsets(packed: PackedPairs, index: Integers, dihedral: Integers, side: int, rng: np.random.Generator) -> Ints:
    """Sample placements (B, 2) uniformly over those where input and output of the pair fit. Raises ValueError where there is none."""
    placed: Ints = rng.integers(0, side - _extents(packed, index, dihedral) + 1)
    return placed


def _extents(packed: PackedPairs, index: Integers, dihedral: Integers) -> Ints:
    """Rows and columns (B, 2) that input and output of each example take together."""
    shapes = packed.shapes[index]
    extent = np.maximum(shapes[:, :2], shapes[:, 2:])
    turned = DIHEDRAL[dihedral, 0]
    extent[turned] = extent[turned, ::-1]
    return extent


@kernel
def _fill(
    cells: Bytes, starts: Ints, shapes: Ints, index: Ints, dihedral: Ints, colours: Bytes, offsets: Ints, side: int, tokens: Bytes
) -> None:
    """Draw every example; a transform is a start and two strides over the packed cells."""
    table = np.empty(10, dtype=np.uint8)
    for b in range(index.shape[0]):
        i, d = index[b], dihedral[b]
        for c in range(10):
            table[c] = colours[b, c] + FIRST_COLOUR
        top, left = offsets[b, 0], offsets[b, 1]
        turned, up, back = DIHEDRAL[d, 0], DIHEDRAL[d, 1], DIHEDRAL[d, 2]
        for k in range(2):
            canvas = tokens[k, b]
            canvas[:] = PAD
            h, w = shapes[i, 2 * k], shapes[i, 2 * k + 1]
            start = starts[i, k]
            down, right = -w if up else w, -1 if back else 1
            start += ((h - 1) * w if up else 0) + (w - 1 if back else 0)
            rows, columns = h, w
            if turned:
                rows, columns, down, right = w, h, right, down
            for y in range(rows):
                out = (top + y) * side + left
                source = start + y * down
                for x in range(columns):
                    canvas[out + x] = table[cells[source + x * right]]
            if top + rows < side:
                out = (top + rows) * side + left
                for x in range(columns):
                    canvas[out + x] = EOS
            if left + columns < side:
                for y in range(rows):
                    canvas[(top + y) * side + left + columns] = EOS
