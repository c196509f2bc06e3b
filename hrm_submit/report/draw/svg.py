"""A matplotlib figure as inline SVG that takes its colours and letters from the page around it.

Notable: charts are drawn in stand-in colours, each of which becomes a variable of the page's style sheet, so that one chart
reads in the light and in the dark scheme; text stays text; ids get the chart's name, so that charts in one page never clash.
The object API draws without pyplot and its global state.
"""

from __future__ import annotations

import io
import re
import warnings
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE, SURFACE = "#010a01", "#010a02", "#010a03", "#010a04"
GOOD, NEAR, BAD, NONE = "#010a05", "#010a06", "#010a07", "#010a08"
ACCENT, ACCENT2 = "#010a09", "#010a0a"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    SURFACE: "--surface",
    GOOD: "--good",
    NEAR: "--near",
    BAD: "--bad",
    NONE: "--none",
    ACCENT: "--accent",
    ACCENT2: "--accent2",
}
FONT_SIZE = 11
_NUMBER = re.compile(r"(-?\d+\.\d{2})\d+")


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty chart of `width` x `height` CSS pixels with one pair of axes."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width / 72, height / 72), layout="constrained")
    axes = drawn.add_subplot()
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=FONT_SIZE, length=0, pad=5)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(RULE)
    return drawn, axes


def to_svg(drawn: Figure, name: str, label: str) -> str:
    """`<svg>` of a figure: `name` is put before its ids, `label` is what a screen reader says."""
    import matplotlib

    text = io.StringIO()
    # No date and salted ids: the same run makes the same file. Letters that DejaVu lacks only cost exact widths.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        drawn.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()  # type: ignore[union-attr]
    svg = svg[svg.index(">", svg.index("<svg")) + 1 :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    # matplotlib writes the family alone or in a shorthand, depending on its version.
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--sans)", svg))
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, f"var({variable})")
    svg = re.sub(r"\s*\n\s*", "\n", _NUMBER.sub(r"\1", svg))
    size = f"width:{float(width):g}px;max-width:100%;height:auto"
    return f'<svg class="chart" role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" style="{size}">{svg}'
