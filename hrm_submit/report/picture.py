"""What `show` returns: grids with captions in groups, as HTML for a notebook and as text for a terminal.

Notable: in a terminal groups stand side by side for as long as they fit, then on the next line, and a group that is wider than the
terminal breaks between its grids.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from hrm_submit.report.grids import Tile, grid_blocks

if TYPE_CHECKING:
    from pandas import DataFrame

CAPTION_WIDTH = 22
"""Columns of a terminal that a caption may take where its grid is narrower."""
TILE_GAP, GROUP_GAP = 2, 6
"""Columns between the grids of a group, and between groups."""
THUMB = 72
"""Pixels of the longer side of a grid on a contact sheet; more where a cell would be too small."""


@dataclass(frozen=True, eq=False)
class Section:
    """Groups of grids that belong together, such as the demonstrations of a task, under a heading (or none)."""

    heading: str
    groups: tuple[tuple[Tile, ...], ...]


@dataclass(frozen=True, eq=False, repr=False)
class Picture:
    """A title, lines of text, a table and sections of grids: Jupyter shows it as HTML, `print` in a terminal as coloured blocks."""

    title: str
    sections: tuple[Section, ...] = ()
    lines: tuple[str, ...] = ()
    table: DataFrame | None = None

    def _repr_html_(self) -> str:
        parts = [f"<h3>{_escaped(self.title)}</h3>", *(f"<p>{_escaped(line)}</p>" for line in self.lines)]
        if self.table is not None:
            cells = self._cells(self.table).to_html(index=False, border=0, escape=True)
            parts.append(f'<div class="scroll" style="overflow:auto;max-height:30em" tabindex="0">{cells}</div>')
        for section in self.sections:
            if section.heading:
                parts.append(f"<h4>{_escaped(section.heading)}</h4>")
            parts.append(_row([_row([_figure(tile) for tile in group], ".8em") for group in section.groups], "2em"))
        return f"<div>{''.join(parts)}</div>"

    def __str__(self) -> str:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        return self.blocks(colour=colour, width=shutil.get_terminal_size().columns)

    __repr__ = __str__

    def blocks(self, *, colour: bool, width: int) -> str:
        """Write it for a terminal of `width` columns, grids as 24-bit coloured blocks or as digits."""
        parts = [printable(self.title), *(printable(line) for line in self.lines)]
        if self.table is not None and len(self.table):
            parts.append(self._cells(self.table).to_string(index=False))
        for section in self.sections:
            if section.heading:
                parts.append(printable(section.heading))
            groups = [_flow(_blocks(group, colour), width, TILE_GAP) for group in section.groups]
            parts.append("\n".join(line.rstrip() for line in _flow(groups, width, GROUP_GAP).lines))
        return "\n\n".join(parts)

    @staticmethod
    def _cells(table: DataFrame) -> DataFrame:
        return table.map(lambda cell: printable(str(cell)))


class ContactSheet(Picture):
    """A few small grids for each task: a page shows them side by side, a terminal the table alone."""

    def _repr_html_(self) -> str:
        shown = []
        for section in self.sections:
            grids = "".join(f'<span style="min-width:0">{tile.svg(THUMB)}</span>' for group in section.groups for tile in group)
            caption = f"<figcaption>{_escaped(section.heading)}</figcaption>"
            shown.append(f'<figure style="margin:0">{caption}<div style="display:flex;gap:.4em">{grids}</div></figure>')
        columns = "display:grid;grid-template-columns:repeat(auto-fill,minmax(155px,1fr));gap:1.2em;margin:.5em 0"
        return f'<div>{Picture(self.title, (), self.lines)._repr_html_()}<div style="{columns}">{"".join(shown)}</div></div>'

    def blocks(self, *, colour: bool, width: int) -> str:
        """Write the table."""
        return Picture(self.title, (), self.lines, self.table).blocks(colour=colour, width=width)


def printable(text: str) -> str:
    """Replace control characters, which no markup may hold and a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _escaped(text: str) -> str:
    return escape(printable(text))


def _row(parts: Sequence[str], gap: str) -> str:
    return f'<div style="display:flex;flex-wrap:wrap;align-items:flex-start;gap:{gap};margin:.5em 0">{"".join(parts)}</div>'


def _caption(tile: Tile) -> str:
    return printable(", ".join(filter(None, (tile.caption, *tile.notes[:1], tile.verdict))))


def _figure(tile: Tile) -> str:
    caption = f'<figcaption style="max-width:10em;font-size:.875em">{escape(_caption(tile))}</figcaption>'
    return f'<figure style="margin:0;max-width:100%">{tile.svg()}{caption}</figure>'


@dataclass(frozen=True)
class _Block:
    """Lines that all take `width` columns on the screen, whatever codes they hold."""

    lines: tuple[str, ...]
    width: int


def _blocks(group: Sequence[Tile], colour: bool) -> list[_Block]:
    """Lay out the grids of a group below their captions, which take equally many lines."""
    captions = [textwrap.wrap(_caption(t), max(2 * t.grid.shape[1], CAPTION_WIDTH)) or [""] for t in group]
    height = max(map(len, captions), default=0)
    blocks = []
    for tile, caption in zip(group, captions, strict=True):
        taken = 2 * tile.grid.shape[1]
        width = max(taken, *map(len, caption))
        cells = grid_blocks(tile.grid, colour=colour, wrong=tile.wrong).split("\n")
        padded = [line + " " * (width - taken) if colour else line.ljust(width) for line in cells]
        blocks.append(_Block((*(line.ljust(width) for line in [*caption, *[""] * (height - len(caption))]), *padded), width))
    return blocks


def _flow(blocks: Sequence[_Block], width: int, gap: int) -> _Block:
    """Place `blocks` from left to right in as many rows as a screen of `width` columns needs, an empty line between rows."""
    rows: list[list[_Block]] = []
    for block in blocks:
        if rows and sum(b.width + gap for b in rows[-1]) + block.width <= width:
            rows[-1].append(block)
        else:
            rows.append([block])
    whole = max((sum(b.width for b in row) + gap * (len(row) - 1) for row in rows), default=0)
    lines: list[str] = []
    for row in rows:
        lines += [" " * whole] if lines else []
        taken = sum(b.width for b in row) + gap * (len(row) - 1)
        for k in range(max(len(b.lines) for b in row)):
            cells = (b.lines[k] if k < len(b.lines) else " " * b.width for b in row)
            lines.append((" " * gap).join(cells) + " " * (whole - taken))
    return _Block(tuple(lines), whole)
