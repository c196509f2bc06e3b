"""Grids as pictures: a small inline SVG, coloured blocks for a terminal, and words for who sees neither.

Notable: a colour is one SVG path whose runs of equal cells are horizontal strokes as thick as a row, and the lines between cells are
two dashed strokes as thick as the grid, so that a grid of 30 x 30 takes a kilobyte or two and 240 tasks fit in a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
from numpy.typing import NDArray

from hrm_submit.arc.task import Grid, same_grid
from hrm_submit.predict.vote import Candidate

PALETTE = ("#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00", "#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25")
"""The colours 0..9 as ARC's own pages paint them."""
NAMES: tuple[str, ...] = ("black", "blue", "red", "green", "yellow", "grey", "magenta", "orange", "sky", "maroon")
"""The colours 0..9 in words."""
MOST_WORDS = 36
"""Cells that a text alternative names one by one; of a larger grid it counts the colours."""
MOST_NAMED = 6
"""Wrong cells that a text alternative names by row and column."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A grid with its caption; a grid of no cells is not known. `part` of the task that it belongs to; `notes` tell its votes;
    `verdict` compares it with the truth, and `wrong` marks its wrong cells."""

    caption: str
    grid: Grid
    part: str = ""
    notes: tuple[str, ...] = ()
    verdict: str = ""
    wrong: NDArray[np.bool_] | None = None

    def judged(self, truth: Grid | None) -> Tile:
        """Compare with the truth, if both are known."""
        if truth is None or not self.grid.size:
            return self
        if same_grid(self.grid, truth):
            return replace(self, verdict="right")
        if self.grid.shape != truth.shape:
            return replace(self, verdict=f"wrong size: {_shape(self.grid)}, not {_shape(truth)}")
        wrong = self.grid != truth
        return replace(self, verdict=f"{_cells(int(wrong.sum()))} wrong", wrong=wrong)

    def svg(self, side: int | None = None) -> str:
        """Draw it as SVG of at most about `side` pixels."""
        cell = 12 if side is None else max(3, min(18, side // max(self.grid.shape)))
        return grid_svg(self.grid, label=", ".join(filter(None, (self.part, self.caption, self.verdict))), cell=cell, wrong=self.wrong)


@dataclass(frozen=True, eq=False)
class Output:
    """A test output: the attempts at it, its candidates, best first, and the votes for any grid; its input and truth where known."""

    attempts: Sequence[Grid] = ()
    candidates: Sequence[Candidate] = ()
    votes: int = 0
    input: Grid | None = None
    truth: Grid | None = None

    def tiles(self, part: str = "", other: str = "") -> list[Tile]:
        """Make a tile of each attempt with its votes, or with the note `other` where it is no candidate."""
        known = {c.key: c for c in self.candidates}
        tiles = []
        for number, grid in enumerate(self.attempts, 1):
            found = known.get((grid.shape, grid.tobytes()))
            notes = votes_of(found, self.votes) if found else (other,) if other and grid.size else ()
            tiles.append(Tile(f"attempt {number}", grid, part, notes).judged(self.truth))
        return tiles


def votes_of(candidate: Candidate, total: int) -> tuple[str, ...]:
    """Say how many of `total` votes a candidate has, and its score; nothing where no votes are known. A composite has none."""
    if not total:
        return ()
    votes = f"{candidate.votes} of {total} votes" if candidate.votes else f"composite of {total} votes"
    return votes, f"mean log-probability of a cell {candidate.score:.3f}"


def grid_svg(grid: Grid, *, label: str, cell: int = 12, wrong: NDArray[np.bool_] | None = None) -> str:
    """Draw one inline `<svg>`, `cell` pixels a cell where there is room, less on a narrow page.

    `label` and `text_alternative` name the picture for a screen reader. `wrong`, of the grid's shape, marks cells with a cross.
    """
    rows, columns = grid.shape
    words = f"{label}: {text_alternative(grid)}"
    if wrong is not None:
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
    """Draw the grid for a terminal, a line a row and two columns a cell: 24-bit coloured backgrounds, or digits.

    Cells marked in `wrong` get `><`, or a `!` after their digit.
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
    """Describe the grid: `2 rows by 2 columns: black blue / red red`; of a large one, count its colours."""
    rows, columns = grid.shape
    size = f"{rows} {'row' if rows == 1 else 'rows'} by {columns} {'column' if columns == 1 else 'columns'}"
    if grid.size <= MOST_WORDS:
        return f"{size}: " + " / ".join(" ".join(NAMES[value] for value in row) for row in grid.tolist())
    counts = np.bincount(grid.ravel(), minlength=len(NAMES))
    by_count = sorted(np.flatnonzero(counts).tolist(), key=lambda value: (-counts[value], value))
    return f"{size}: " + ", ".join(f"{counts[value]} {NAMES[value]}" for value in by_count)


def _runs(grid: Grid) -> Iterator[tuple[int, int, int, int]]:
    """Yield row, first column, length and colour of each longest run of one colour, in reading order."""
    for row, values in enumerate(grid):
        starts = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist()]
        for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
            yield row, start, end - start, int(values[start])


def _crosses(wrong: NDArray[np.bool_] | None) -> str:
    """Draw a white cross with a dark rim on each marked cell: it stands out from every colour."""
    if wrong is None or not wrong.any():
        return ""
    d = "".join(f"M{column}.2 {row}.2l.6.6m0-.6l-.6.6" for row, column in np.argwhere(wrong).tolist())
    return f'<g class="wrong"><path stroke="#000" stroke-width=".3" d="{d}"/><path stroke="#fff" stroke-width=".14" d="{d}"/></g>'


def _wrong_words(wrong: NDArray[np.bool_]) -> str:
    places = [f"row {row + 1} column {column + 1}" for row, column in np.argwhere(wrong)[:MOST_NAMED].tolist()]
    n = int(wrong.sum())
    if not n:
        return "no cell wrong"
    return f"{_cells(n)} wrong: {', '.join(places)}{', ...' if n > len(places) else ''}"


def _cells(n: int) -> str:
    return f"{n} {'cell' if n == 1 else 'cells'}"


def _shape(grid: Grid) -> str:
    return f"{grid.shape[0]}x{grid.shape[1]}"
