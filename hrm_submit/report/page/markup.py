"""Small pieces of HTML; whatever comes from a file is escaped here."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from hrm_submit.arc.task import Grid
from hrm_submit.report.draw.grids import grid_svg
from hrm_submit.report.run.words import known

LONG = 26
"""Letters that fit into one column of a list of facts."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, label: str) -> str:
    """A table of text; the first cell of a row is its heading. `label` names it for a screen reader."""
    top = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(str(row[0]))}</th>{"".join(f"<td>{escape(str(cell))}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    # Focusable, so that a table wider than a phone can be scrolled by keyboard.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """A list of names and values, without the values that are missing."""
    shown = ""
    for name, value in pairs:
        if known(value):
            width = "long" if len(str(value)) > LONG else "short"
            shown += f'<div class="{width}"><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>'
    return f'<dl class="facts">{shown}</dl>' if shown else ""


def details(summary: str, body: str) -> str:
    """Folded away until somebody asks; `body` is markup."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def picture(grid: Grid | None, caption: str, label: str, *, side: int, wrong: NDArray[np.bool_] | None = None, note: str = "") -> str:
    """A grid of at most about `side` pixels with its caption; without a grid, a gap that says so."""
    if grid is None or not grid.size:
        shown = '<span class="gap">not known</span>'
    else:
        shown = grid_svg(grid, label=label, cell=max(3, min(18, side // max(grid.shape))), wrong=wrong)
    extra = f"<small>{note}</small>" if note else ""
    return f'<figure class="picture">{shown}<figcaption>{caption}{extra}</figcaption></figure>'


def packed(markup: str) -> str:
    """Deflated and in base64, for what is shown only when asked for: pictures of grids shrink to a tenth."""
    return base64.b64encode(zlib.compress(markup.encode("utf-8", "replace"), 9)).decode("ascii")
