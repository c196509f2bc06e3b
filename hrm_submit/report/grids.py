"""Grids as pictures: a small inline SVG, coloured blocks for a terminal, and text for who sees neither.

Notable: a colour is one SVG path whose runs of equal cells are horizontal strokes as thick as a row, and the lines between cells are
two dashed strokes as thick as the grid, so that a grid of 30 x 30 takes a kilobyte or two and 240 tasks fit in a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
from numpy.typing import NDArray

from hrm_submit.arc.task import Grid, Task, same_grid
from hrm_submit.predict.vote import Candidate

PALETTE = ("#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00", "#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25")
"""The colours 0..9 as ARC's own pages paint them."""
MOST_TOLD = 36
"""Cells that a screen reader tells one by one; of a larger grid it tells the size alone."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A grid with its caption. `notes` tell its votes; `verdict` compares it with the truth, and `wrong` marks its wrong cells."""

    caption: str
    grid: Grid
    notes: tuple[str, ...] = ()
    verdict: str = ""
    wrong: NDArray[np.bool_] | None = None

    def judged(self, truth: Grid | None) -> Tile:
        """Compare with the truth, if it is known."""
        if truth is None:
            return self
        if same_grid(self.grid, truth):
            return replace(self, verdict="right")
        if self.grid.shape != truth.shape:
            return replace(self, verdict=f"wrong size: {size_of(self.grid)}, not {size_of(truth)}")
        wrong = self.grid != truth
        return replace(self, verdict=f"{count(int(wrong.sum()), 'cell')} wrong", wrong=wrong)

    def svg(self, side: int | None = None) -> str:
        """Draw one inline `<svg>` of at most about `side` pixels, less on a narrow page, with its words for a screen reader."""
        rows, columns = self.grid.shape
        cell = 12 if side is None else max(3, min(18, side // max(rows, columns)))
        words = [self.caption, self.verdict, size_of(self.grid), grid_text(self.grid) if self.grid.size <= MOST_TOLD else ""]
        commonest = int(np.bincount(self.grid.ravel(), minlength=len(PALETTE)).argmax())
        strokes: dict[int, str] = {}
        for row, values in enumerate(self.grid):
            starts = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist()]
            for start, end in zip(starts, [*starts[1:], columns], strict=True):
                colour = int(values[start])
                if colour != commonest:
                    strokes[colour] = strokes.get(colour, "") + f"M{start} {row}h{end - start}"
        painted = "".join(f'<path stroke="{PALETTE[colour]}" d="{d}"/>' for colour, d in sorted(strokes.items()))
        return (
            f'<svg class="grid" role="img" aria-label="{escape(", ".join(filter(None, words)))}" viewBox="0 0 {columns} {rows}" '
            f'style="width:{columns * cell}px;max-width:100%;height:auto" fill="none">'
            f'<rect width="{columns}" height="{rows}" fill="{PALETTE[commonest]}"/>'
            f'<g transform="translate(0 .5)" shape-rendering="crispEdges">{painted}</g>'
            f'<g stroke="#555" stroke-dasharray=".06 .94" stroke-dashoffset=".03">'
            f'<path stroke-width="{rows}" d="M0 {rows / 2:g}h{columns}"/>'
            f'<path stroke-width="{columns}" d="M{columns / 2:g} 0v{rows}"/></g>{self._crosses()}</svg>'
        )

    def _crosses(self) -> str:
        """Draw a white cross with a dark rim on each wrong cell: it stands out from every colour."""
        if self.wrong is None:
            return ""
        d = "".join(f"M{column}.2 {row}.2l.6.6m0-.6l-.6.6" for row, column in np.argwhere(self.wrong).tolist())
        return f'<g class="wrong"><path stroke="#000" stroke-width=".3" d="{d}"/><path stroke="#fff" stroke-width=".14" d="{d}"/></g>'

    def blocks(self, *, colour: bool) -> list[str]:
        """Draw it for a terminal, a line a row and two columns a cell: 24-bit coloured backgrounds, `><` on wrong cells, or digits,
        `!` after wrong ones."""
        wrong = np.zeros(self.grid.shape, dtype=bool) if self.wrong is None else self.wrong
        lines = []
        for values, marks in zip(self.grid.tolist(), wrong.tolist(), strict=True):
            if colour:
                cells = [_block(value) + ("><" if mark else "  ") for value, mark in zip(values, marks, strict=True)]
                lines.append("".join(cells) + "\x1b[0m")
            else:
                lines.append("".join(f"{value}{'!' if mark else ' '}" for value, mark in zip(values, marks, strict=True)))
        return lines


@dataclass(frozen=True, eq=False)
class Output:
    """A test output: the attempts at it, its candidates, best first, the votes for any grid, its input and truth."""

    attempts: Sequence[Grid] = ()
    candidates: Sequence[Candidate] = ()
    votes: int = 0
    input: Grid | None = None
    truth: Grid | None = None

    def tiles(self) -> list[Tile]:
        """Make a tile of each attempt, with its votes; an attempt that is no candidate is a fallback."""
        known = {c.key: c for c in self.candidates}
        tiles = []
        for number, grid in enumerate(self.attempts, 1):
            found = known.get((grid.shape, grid.tobytes()))
            notes = votes_of(found, self.votes) if found else ("fallback",)
            if grid.size:
                tiles.append(Tile(f"attempt {number}", grid, notes).judged(self.truth))
        return tiles


def answer_tiles(outputs: Sequence[Output]) -> list[list[Tile]]:
    """Make the tiles of each test output: its input, the attempts and the truth, as far as they are known."""
    rows = []
    for k, output in enumerate(outputs, 1):
        given = [] if output.input is None else [Tile("test input" if len(outputs) == 1 else f"test input {k}", output.input)]
        rows.append([*given, *output.tiles(), *([] if output.truth is None else [Tile("answer", output.truth)])])
    return rows


def demonstrations_of(task: Task) -> list[tuple[Tile, Tile]]:
    """Make the tiles of each demonstration."""
    return [(Tile(f"input {n}", pair.input), Tile(f"output {n}", pair.output)) for n, pair in enumerate(task.train, 1)]


def votes_of(candidate: Candidate, total: int) -> tuple[str, ...]:
    """Say how many of `total` votes a candidate has, and its score; nothing where no votes are known. A composite has none."""
    if not total:
        return ()
    votes = f"{candidate.votes} of {total} votes" if candidate.votes else f"composite of {total} votes"
    return votes, f"mean log-probability of a cell {candidate.score:.3f}"


def grid_text(grid: Grid) -> str:
    """Write a digit a cell, rows apart by `/`."""
    return b"/".join(row.tobytes() for row in grid + ord("0")).decode()


def size_of(grid: Grid) -> str:
    """Write `rows x columns`, as in `3x4`."""
    return f"{grid.shape[0]}x{grid.shape[1]}"


def count(n: int, one: str) -> str:
    """Write `1 task`, `2 tasks`."""
    return f"{n:,} {one}{'' if n == 1 else 's'}"


def percent(share: float) -> str:
    """Write `12.5 %`."""
    return f"{100 * share:.1f} %"


def _block(value: int) -> str:
    """The codes of a cell's background and of a mark that stands out from it."""
    red, green, blue = bytes.fromhex(PALETTE[value][1:])
    ink = 30 if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else 97
    return f"\x1b[{ink};48;2;{red};{green};{blue}m"
