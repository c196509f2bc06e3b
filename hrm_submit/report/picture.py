"""What `show` returns: grids with captions in groups, as HTML for a notebook and as text for a terminal.

Notable: in a terminal groups stand side by side for as long as they fit, then on the next line, and a group that is wider than the
terminal breaks between its grids. The content security policy of a page forbids every request and runs only the one script whose hash
it names, so that nothing in a run folder could do harm even if it got past the escaping.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from hrm_submit.report.grids import Tile

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
    groups: Sequence[Sequence[Tile]]


@dataclass(frozen=True, eq=False, repr=False)
class Picture:
    """A title, lines of text, a table and sections of grids: Jupyter shows it as HTML, `print` in a terminal as coloured blocks.

    `sheet`: grids are small in HTML, and a terminal shows the table alone.
    """

    title: str
    sections: Sequence[Section] = ()
    lines: Sequence[str] = ()
    table: DataFrame | None = None
    sheet: bool = False

    def _repr_html_(self) -> str:
        parts = [f"<h3>{_escaped(self.title)}</h3>", *(f"<p>{_escaped(line)}</p>" for line in self.lines)]
        if self.table is not None:
            cells = self.table.map(printable).to_html(index=False, border=0, escape=True)
            parts.append(f'<div class="scroll" style="overflow:auto;max-height:30em" tabindex="0">{cells}</div>')
        for section in self.sections:
            if section.heading:
                parts.append(f"<h4>{_escaped(section.heading)}</h4>")
            parts.append(_row([_row([self._figure(tile) for tile in group], ".8em") for group in section.groups], "2em"))
        return f"<div>{''.join(parts)}</div>"

    def _figure(self, tile: Tile) -> str:
        caption = f'<figcaption style="max-width:10em;font-size:.875em">{escape(_caption(tile))}</figcaption>'
        return f'<figure style="margin:0;max-width:100%">{tile.svg(THUMB if self.sheet else None)}{caption}</figure>'

    def document(self) -> bytes:
        """Make one HTML file that needs nothing besides itself, in which a click on a head of a table sorts it."""
        script = asset("tables.js")
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy(script)}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
            f"<title>{_escaped(self.title)}</title><style>{asset('page.css')}</style></head><body><main>"
            f"{self._repr_html_()}</main><script>{script}</script></body></html>\n"
        ).encode("utf-8", "replace")

    def __str__(self) -> str:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        return self.blocks(colour=colour, width=shutil.get_terminal_size().columns)

    __repr__ = __str__

    def blocks(self, *, colour: bool, width: int) -> str:
        """Write it for a terminal of `width` columns, grids as 24-bit coloured blocks or as digits."""
        parts = list(map(printable, (self.title, *self.lines)))
        if self.table is not None and len(self.table):
            parts.append(self.table.map(printable).to_string(index=False))
        for section in () if self.sheet else self.sections:
            if section.heading:
                parts.append(printable(section.heading))
            groups = [_flow(_blocks(group, colour), width, TILE_GAP) for group in section.groups]
            parts.append("\n".join(line.rstrip() for line in _flow(groups, width, GROUP_GAP)))
        return "\n\n".join(parts)


def policy(script: str) -> str:
    """Make the policy of a page whose one script is `script`."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def asset(name: str) -> str:
    """Read a file that lies beside this one."""
    return (resources.files("hrm_submit.report") / name).read_text(encoding="utf-8")


def printable(text: object) -> str:
    """Replace control characters, which no markup may hold and a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def _escaped(text: str) -> str:
    return escape(printable(text))


def _row(parts: Sequence[str], gap: str) -> str:
    return f'<div style="display:flex;flex-wrap:wrap;align-items:flex-start;gap:{gap};margin:.5em 0">{"".join(parts)}</div>'


def _caption(tile: Tile) -> str:
    return printable(", ".join(filter(None, (tile.caption, *tile.notes[:1], tile.verdict))))


def _blocks(group: Sequence[Tile], colour: bool) -> list[list[str]]:
    """Lay out the grids of a group below their captions, which take equally many lines; all lines of a grid are equally wide."""
    captions = [textwrap.wrap(_caption(t), max(2 * t.grid.shape[1], CAPTION_WIDTH)) or [""] for t in group]
    height = max(map(len, captions))
    blocks = []
    for tile, caption in zip(group, captions, strict=True):
        taken = 2 * tile.grid.shape[1]
        width = max(taken, *map(len, caption))
        above = [*caption, *[""] * (height - len(caption))]
        blocks.append([line.ljust(width) for line in above] + [line + " " * (width - taken) for line in tile.blocks(colour=colour)])
    return blocks


def _flow(blocks: Sequence[Sequence[str]], width: int, gap: int) -> list[str]:
    """Place `blocks` from left to right in as many rows as a screen of `width` columns needs, an empty line between rows.

    The first line of a block is text without codes, so its length is the width of the block, as it is of the result.
    """
    space = " " * gap
    rows: list[list[Sequence[str]]] = []
    for block in blocks:
        if rows and len(space.join(b[0] for b in [*rows[-1], block])) <= width:
            rows[-1].append(block)
        else:
            rows.append([block])
    widths = [len(space.join(block[0] for block in row)) for row in rows]
    lines: list[str] = []
    for row, taken in zip(rows, widths, strict=True):
        lines += [" " * max(widths)] if lines else []
        height = max(map(len, row))
        filled = ([*block, *[" " * len(block[0])] * (height - len(block))] for block in row)
        lines += [space.join(cells) + " " * (max(widths) - taken) for cells in zip(*filled, strict=True)]
    return lines
