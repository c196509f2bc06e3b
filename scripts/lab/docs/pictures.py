"""The pictures of the documentation, drawn by the kit's own augmentation, canvas and vote from a task that was made up for them.

Notable: each is one SVG with a light ground of its own, so that it reads in a light and in a dark page; the same code makes the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.canvas import FIRST_COLOUR, encode_inputs
from hrm_submit.arc.task import Grid, make_grid
from hrm_submit.predict.vote import Prediction, vote
from hrm_submit.report.draw.grids import PALETTE

INK, QUIET, GROUND, PAPER = "#1f2328", "#59636e", "#ffffff", "#f3f4f6"
FONT = "system-ui, sans-serif"

SHOWN = make_grid([[3, 0, 0], [3, 4, 0], [0, 0, 4]])
ASKED = make_grid([[0, 4, 0], [3, 3, 0], [0, 0, 4]])
VIEWS = (
    Augmentation(),
    Augmentation(1),
    Augmentation(4, (0, 6, 2, 8, 1, 5, 3, 7, 4, 9)),
    Augmentation(6, (0, 9, 2, 4, 7, 5, 6, 3, 8, 1)),
)


def solved(grid: Grid) -> Grid:
    """The rule of the task: the grid beside its mirror image."""
    return make_grid(np.hstack([grid, grid[:, ::-1]]))


def cells(grid: Grid, x: float, y: float, size: float) -> str:
    """A grid with its top left corner at (x, y)."""
    drawn = [
        f'<rect x="{x + c * size:g}" y="{y + r * size:g}" width="{size:g}" height="{size:g}" fill="{PALETTE[v]}"/>'
        for r, row in enumerate(grid.tolist())
        for c, v in enumerate(row)
    ]
    return f'<g stroke="#777" stroke-width=".6">{"".join(drawn)}</g>'


def words(text: str, x: float, y: float, *, size: float = 13, ink: str = INK, anchor: str = "middle", weight: int = 400) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{ink}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
    )


def arrow(x: float, y: float, length: float = 22) -> str:
    """From (x, y) to the right."""
    tip = x + length
    drawn = f"M{x:g} {y:g}H{tip - 1:g}M{tip - 6:g} {y - 4:g}L{tip:g} {y:g}L{tip - 6:g} {y + 4:g}"
    return f'<path d="{drawn}" stroke="{QUIET}" stroke-width="1.6" fill="none"/>'


def page(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{escape(label)}" font-family="{FONT}"><rect width="{width:g}" height="{height:g}" rx="8" fill="{GROUND}"/>'
        f"{''.join(parts)}</svg>\n"
    )


def flow() -> str:
    """Challenges, views, canvas, HRM with its training, votes, submission."""
    top, size, parts = 58.0, 9.0, []
    for x, title in zip((70, 205, 335, 470, 620, 765), ("challenges", "views", "canvas", "HRM", "votes", "submission"), strict=True):
        parts.append(words(title, x, 26, weight=600))
    for k, grid in enumerate((SHOWN, make_grid(SHOWN[::-1]))):
        y = top + 46 * k
        parts += [cells(grid, 24, y, size), arrow(54, y + 14, 16), cells(solved(grid), 74, y, size)]
    parts += [cells(ASKED, 24, top + 92, size), words("?", 98, top + 112, size=20, ink=QUIET), arrow(134, top + 60)]
    for k, view in enumerate(VIEWS):
        parts.append(cells(view.apply(ASKED), 170 + 42 * (k % 2), top + 16 + 44 * (k // 2), size))
    parts += [words("turned, mirrored,", 205, top + 124, size=11, ink=QUIET), words("recoloured", 205, top + 138, size=11, ink=QUIET)]
    parts += [
        arrow(262, top + 60),
        _tokens(VIEWS[1], 300, top + 24, 10, 7),
        words("tokens", 335, top + 124, size=11, ink=QUIET),
        arrow(382, top + 60),
    ]
    for k, name in enumerate(("H slow", "L fast")):
        y = top + 16 + 48 * k
        parts.append(f'<rect x="420" y="{y:g}" width="100" height="36" rx="6" fill="{PAPER}" stroke="{QUIET}"/>' + words(name, 470, y + 23))
    parts += [f'<path d="M450 {top + 52:g}v12M490 {top + 64:g}v-12" stroke="{QUIET}" stroke-width="1.6"/>']
    parts += [
        words("test-time training", 470, top + 124, size=11, ink=QUIET),
        words("on this task alone", 470, top + 138, size=11, ink=QUIET),
    ]
    right, wrong = solved(ASKED), make_grid(np.hstack([ASKED, ASKED]))
    parts += [arrow(532, top + 60), cells(right, 572, top + 16, size), words("23 of 32", 632, top + 34, size=12, anchor="start")]
    parts += [cells(wrong, 572, top + 64, size), words("6 of 32", 632, top + 82, size=12, anchor="start")]
    parts += [words("views undone,", 620, top + 124, size=11, ink=QUIET), words("equal grids counted", 620, top + 138, size=11, ink=QUIET)]
    parts += [arrow(696, top + 60), cells(right, 738, top + 16, size), cells(wrong, 738, top + 64, size)]
    parts += [words("two attempts", 765, top + 124, size=11, ink=QUIET)]
    return page(
        840, 214, "Challenges become views, views canvases of tokens; HRM trains on them and answers; votes become two attempts", parts
    )


def _tokens(view: Augmentation, x: float, y: float, size: float, side: int) -> str:
    """The test input under a view on its canvas: colours, the border of EOS hatched grey, PAD light."""
    canvas = encode_inputs([ASKED], [view], side).reshape(side, side)
    drawn = []
    for r, row in enumerate(canvas.tolist()):
        for c, token in enumerate(row):
            fill = PAPER if token == 0 else "#c3c8cf" if token == 1 else PALETTE[token - FIRST_COLOUR]
            drawn.append(f'<rect x="{x + c * size:g}" y="{y + r * size:g}" width="{size:g}" height="{size:g}" fill="{fill}"/>')
    return f'<g stroke="#777" stroke-width=".6">{"".join(drawn)}</g>'


def views() -> str:
    """One demonstration under four augmentations."""
    parts, size = [], 13.0
    names = ("as it is", "quarter turn", "mirrored, recoloured", "transposed, recoloured")
    for k, (view, name) in enumerate(zip(VIEWS, names, strict=True)):
        given, wanted = view.apply(SHOWN), view.apply(solved(SHOWN))
        x = 24 + 200 * k
        height = wanted.shape[0] * size
        parts += [cells(given, x, 46, size), arrow(x + 46, 66, 18), cells(wanted, x + 72, 66 - height / 2, size)]
        parts.append(words(name, x + 76, 132, size=12, ink=QUIET))
    return page(820, 150, "A demonstration as it is, turned, mirrored and transposed with other colours", parts)


def canvas() -> str:
    """A grid on its canvas, with its tokens."""
    size, side = 30.0, 7
    tokens = encode_inputs([ASKED], [VIEWS[0]], side).reshape(side, side)
    parts = [cells(ASKED, 30, 70, size), arrow(150, 115, 40), _tokens(VIEWS[0], 220, 20, size, side)]
    for r, row in enumerate(tokens.tolist()):
        for c, token in enumerate(row):
            dark = token - FIRST_COLOUR in (0, 1, 9)
            parts.append(words(str(token), 220 + (c + 0.5) * size, 20 + (r + 0.65) * size, size=11, ink="#fff" if dark else INK))
    for k, (text, fill) in enumerate((("0: PAD", PAPER), ("1: EOS, the border", "#c3c8cf"), ("2 to 11: the colours 0 to 9", PALETTE[4]))):
        y = 60 + 34 * k
        parts.append(
            f'<rect x="470" y="{y}" width="18" height="18" fill="{fill}" stroke="#777"/>' + words(text, 498, y + 14, anchor="start")
        )
    return page(720, 250, "A grid of 3 by 3 on a canvas of 7 by 7 tokens, with a border of EOS and the rest PAD", parts)


def votes() -> str:
    """What eight views say, and what is made of it."""
    right, wrong = solved(ASKED), make_grid(np.hstack([ASKED, ASKED]))
    odd = right.copy()
    odd[0, 5] = 4
    said = [right, right, wrong, right, make_grid(odd), right, wrong, right]
    parts, size = [words("eight views, undone", 146, 24, size=12, ink=QUIET)], 9.0
    for k, grid in enumerate(said):
        parts.append(cells(grid, 24 + 64 * (k % 4), 40 + 44 * (k // 4), size))
    parts += [arrow(292, 82, 30), words("candidates", 420, 24, size=12, ink=QUIET)]
    for k, candidate in enumerate(vote(Prediction(grid, -0.1) for grid in said)):
        y = 40 + 40 * k
        parts += [
            cells(candidate.grid, 350, y, size),
            words(f"{candidate.votes} votes" if candidate.votes > 1 else "1 vote", 424, y + 18, anchor="start"),
        ]
        if k < 2:
            parts += [arrow(490, y + 14, 30), words(f"attempt {k + 1}", 536, y + 18, anchor="start", weight=600)]
    return page(
        640, 166, "Eight predictions, grouped into three candidates with five, two and one votes; the first two are the attempts", parts
    )


PICTURES = {"flow": flow, "views": views, "canvas": canvas, "votes": votes}


def draw(folder: Path) -> list[Path]:
    """Write every picture below `folder`."""
    made = [folder / f"{name}.svg" for name in PICTURES]
    for path, picture in zip(made, PICTURES.values(), strict=True):
        path.write_text(picture(), encoding="utf-8")
    return made
