"""Grids as pictures: a small inline SVG, coloured blocks for a terminal, and words for who sees neither.

Notable: a colour is one SVG path whose runs of equal cells are horizontal strokes as thick as a row, and the lines between
cells are two dashed strokes as thick as the grid, so that a grid of 30 x 30 takes a kilobyte or two and 240 tasks fit in a page.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np
from numpy.typing import NDArray

from hrm_submit.arc.task import Grid

PALETTE: tuple[str, ...] = (
    "#000000",
    "#0074D9",
    "#FF4136",
    "#2ECC40",
    "#FFDC00",
    "#AAAAAA",
    "#F012BE",
    "#FF851B",
    "#7FDBFF",
    "#870C25",
)
"""The colours 0..9 as ARC's own pages paint them."""

NAMES: tuple[str, ...] = ("black", "blue", "red", "green", "yellow", "grey", "magenta", "orange", "sky", "maroon")
"""The colours 0..9 in words."""

MOST_WORDS = 36
"""Cells that a text alternative names one by one; of a larger grid it counts the colours."""
MOST_PLACES = 6
"""Wrong cells that a text alternative names by their place."""


def grid_svg(grid: Grid, *, label: str, cell: int = 12, wrong: NDArray[np.bool_] | None = None) -> str:
    """One inline `<svg>`, `cell` pixels a cell where there is room for it, less on a narrow page.

    `label` says what the grid is, and with `text_alternative` names the picture for a screen reader; it is escaped here.
    `wrong`, of the grid's shape, marks cells with a cross. Raises ValueError where it has another shape.
    """
    rows, columns = grid.shape
    words = f"{label}: {text_alternative(grid)}"
    if wrong is not None:
        if wrong.shape != grid.shape:
            raise ValueError(f"marks of shape {wrong.shape} for a grid of shape {grid.shape}")
        words += f"; {_wrong_words(wrong)}"
    commonest = int(np.bincount(grid.ravel(), minlength=len(PALETTE)).argmax())
    strokes: dict[int, list[str]] = {}
    for row, start, length, colour in _runs(grid):
        if colour != commonest:
            strokes.setdefault(colour, []).append(f"M{start} {row}h{length}")
    painted = "".join(f'<path stroke="{PALETTE[colour]}" d="{"".join(runs)}"/>' for colour, runs in sorted(strokes.items()))
    return (
        f'<svg class="grid" role="img" aria-label="{escape(words)}" viewBox="0 0 {columns} {rows}" '
        f'style="width:{columns * cell}px;max-width:100%;height:auto" fill="none">'
        f'<rect width="{columns}" height="{rows}" fill="{PALETTE[commonest]}"/>'
        f'<g transform="translate(0 .5)" shape-rendering="crispEdges">{painted}</g>'
        f'<g stroke="#555" stroke-dasharray=".06 .94" stroke-dashoffset=".03"><path stroke-width="{rows}" d="M0 {rows / 2:g}h{columns}"/>'
        f'<path stroke-width="{columns}" d="M{columns / 2:g} 0v{rows}"/></g>{_crosses(wrong)}</svg>'
    )


def grid_blocks(grid: Grid, *, colour: bool, wrong: NDArray[np.bool_] | None = None) -> str:
    """The grid for a terminal, a line a row and two columns a cell: 24-bit coloured backgrounds, or digits.

    Cells marked in `wrong`, of the grid's shape, bear `><`, or a `!` after their digit.
    """
    marked = np.zeros(grid.shape, dtype=bool) if wrong is None else wrong
    if not colour:
        rows = zip(grid.tolist(), marked.tolist(), strict=True)
        return "\n".join("".join(f"{v}!" if w else f"{v} " for v, w in zip(*row, strict=True)).rstrip() for row in rows)
    lines: list[list[str]] = [[] for _ in grid]
    for row, start, length, value in _runs(grid):
        red, green, blue = bytes.fromhex(PALETTE[value][1:])
        ink = 30 if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else 97
        cells = "".join("><" if w else "  " for w in marked[row, start : start + length])
        lines[row].append(f"\x1b[{ink};48;2;{red};{green};{blue}m{cells}")
    return "\n".join("".join(line) + "\x1b[0m" for line in lines)


def text_alternative(grid: Grid) -> str:
    """The grid in words: `2 rows by 2 columns: black blue / red red`; of a large one, how often it has each colour."""
    rows, columns = grid.shape
    size = f"{rows} {'row' if rows == 1 else 'rows'} by {columns} {'column' if columns == 1 else 'columns'}"
    if grid.size <= MOST_WORDS:
        return f"{size}: " + " / ".join(" ".join(NAMES[value] for value in row) for row in grid.tolist())
    counts = np.bincount(grid.ravel(), minlength=len(NAMES))
    by_count = sorted(np.flatnonzero(counts).tolist(), key=lambda value: (-counts[value], value))
    return f"{size}: " + ", ".join(f"{counts[value]} {NAMES[value]}" for value in by_count)


def _runs(grid: Grid) -> Iterator[tuple[int, int, int, int]]:
    """Row, first column, length and colour of each longest stretch of one colour in a row, in reading order."""
    for row, values in enumerate(grid):
        starts = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist()]
        for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
            yield row, start, end - start, int(values[start])


def _crosses(wrong: NDArray[np.bool_] | None) -> str:
    """A white cross with a dark rim on each marked cell: it stands out from every colour, also for who sees no colours."""
    if wrong is None or not wrong.any():
        return ""
    d = "".join(f"M{column}.2 {row}.2l.6.6m0-.6l-.6.6" for row, column in np.argwhere(wrong).tolist())
    return f'<g class="wrong"><path stroke="#000" stroke-width=".3" d="{d}"/><path stroke="#fff" stroke-width=".14" d="{d}"/></g>'


def _wrong_words(wrong: NDArray[np.bool_]) -> str:
    places = [f"row {row + 1} column {column + 1}" for row, column in np.argwhere(wrong)[:MOST_PLACES].tolist()]
    n = int(wrong.sum())
    if not n:
        return "no cell wrong"
    return f"{n} {'cell' if n == 1 else 'cells'} wrong: {', '.join(places)}{', ...' if n > len(places) else ''}"
