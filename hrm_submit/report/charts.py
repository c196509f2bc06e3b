"""The charts of a report as inline SVG that takes its colours and letters from the page around it.

Notable: matplotlib draws in stand-in colours, each of which becomes a variable of the page's style sheet, so that one chart reads in the
light and in the dark scheme; text stays text; ids get the chart's name, so that charts in one page never clash. The object API draws
without pyplot and its global state.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from hrm_submit.core.clock import format_duration
from hrm_submit.record.state import RunState, Training
from hrm_submit.report.statistics import Group, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VARIABLES = ("ink", "muted", "rule", "surface", "good", "bad", "none", "accent", "accent2")
INK, MUTED, RULE, SURFACE, GOOD, BAD, NONE, ACCENT, ACCENT2 = (f"#010a{k:02x}" for k in range(1, len(VARIABLES) + 1))
FONT_SIZE = 11
TICK_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
PHASE_COLOURS = {"training": ACCENT, "vote": ACCENT2, "loading": NONE, "lost": BAD}
CURVE_WIDTH, CURVE_HEIGHT, CURVE_PAD = 320, 96, 6

Box = tuple[float, float, float, float]
"""Left, right, top, bottom of a rectangle, in the units of the axes."""


def share_chart(name: str, what: str, groups: Sequence[Group], *, judged: bool = True) -> str:
    """Draw the solved share of each group with Wilson's 95 % interval and the group's size; where nothing is judged, the sizes alone."""
    drawn, axes = _figure(340, 230)
    axes.set_xlabel(what, color=MUTED, fontsize=FONT_SIZE)
    names = [g.name.removesuffix(" %") for g in groups]
    axes.bar(names, [g.share if judged else g.n for g in groups], color=GOOD if judged else ACCENT, width=0.68)
    for x, g in enumerate(groups):
        if judged and g.n:
            axes.plot([x, x], wilson(g.right, g.n), color=INK, linewidth=1.2)
        _text(axes, x, 1.04 if judged else g.n, str(g.n), ha="center", va="bottom", colour=MUTED, size=10)
    if judged:
        axes.set_ylim(0, 1.18)
        axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        return _svg(drawn, name, f"Right by {what}: " + ", ".join(f"{g.name}: {g.right} of {g.n}" for g in groups))
    axes.margins(y=0.12)
    axes.yaxis.set_visible(False)
    return _svg(drawn, name, f"Number by {what}: " + ", ".join(f"{g.name}: {g.n}" for g in groups))


def timeline_chart(state: RunState) -> str:
    """Draw workers over time, those of one node together: phases as bars, planned shares as a thin line under them, failures as crosses;
    attempts one after the other, each with its budget. Empty where no worker did anything."""
    if not state.stretches:
        return ""
    ends, nodes = [attempt.end for attempt in state.attempts], state.nodes
    offsets = [sum(ends[:k]) for k in range(len(ends))]
    total = sum(ends) or 1.0
    workers = sorted({s.worker for s in state.stretches}, key=lambda w: (nodes.get(w, ""), w))
    rows = {worker: row for row, worker in enumerate(workers)}
    drawn, axes = _figure(1040, 70 + 34 * len(workers))

    def box(attempt: int, start: float, end: float, worker: int, top: float = -0.3, bottom: float = 0.18) -> Box:
        return offsets[attempt - 1] + start, offsets[attempt - 1] + end, rows[worker] + top, rows[worker] + bottom

    for phase, colour in PHASE_COLOURS.items():
        _boxes(axes, [box(s.attempt, s.start, s.end, s.worker) for s in state.stretches if s.phase == phase], colour, phase)
    gap = total * 0.0008
    _boxes(axes, [box(t.attempt, t.start - gap, t.start + gap, t.worker) for t in state.trainings], SURFACE, "_")
    shares = [(t, t.planned) for t in state.trainings if t.planned is not None]
    planned = [box(t.attempt, t.start + gap, t.start + seconds - gap, t.worker, 0.26, 0.34) for t, seconds in shares]
    _boxes(axes, planned, MUTED, "planned share")
    for t in state.trainings:
        if t.task.isascii() and t.task.isprintable() and t.seconds / total * 1040 > 9 * len(t.task):
            x = offsets[t.attempt - 1] + t.start + t.seconds / 2
            _text(axes, x, rows[t.worker] - 0.06, t.task, ha="center", va="center", size=9, colour=SURFACE)
    lost = [(offsets[s.attempt - 1] + s.end, rows[s.worker] - 0.06) for s in state.stretches if s.phase == "lost"]
    if lost:
        x_lost, y_lost = zip(*lost, strict=True)
        axes.plot(x_lost, y_lost, color=BAD, marker="x", markersize=8, markeredgewidth=2, linestyle="none", label="failure")
    budgets = [offset + attempt.budget for offset, attempt in zip(offsets, state.attempts, strict=True) if attempt.budget is not None]
    for k, x in enumerate(budgets):
        axes.axvline(x, color=BAD, linewidth=1.2, linestyle="--", label="_" if k else "time budget")
    for x in offsets[1:]:
        axes.axvline(x, color=INK, linewidth=1.2, linestyle=":")
    step = next((s for s in TICK_SECONDS if total / s <= 12), total / 12)
    axes.set_xlim(0, 1.01 * max(total, *offsets, *budgets))
    axes.set_xticks([k * step for k in range(int(total / step) + 1)])
    axes.xaxis.set_major_formatter(lambda value, _: _clock_time(value, total))
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_yticks(range(len(workers)), [f"{nodes[w]}, worker {w}" if w in nodes else f"worker {w}" for w in workers])
    axes.set_ylim(len(workers) - 0.5, -0.5)
    for row in (k for k in range(1, len(workers)) if nodes.get(workers[k]) != nodes.get(workers[k - 1])):
        axes.axhline(row - 0.5, color=MUTED, linewidth=0.8)
    drawn.legend(loc="outside upper left", ncols=7, frameon=False, fontsize=FONT_SIZE, labelcolor=INK, handlelength=1.2)
    told = f"What {len(workers)} workers did in {format_duration(total)}: {len(state.trainings)} trainings, {len(lost)} losses"
    return _svg(drawn, "timeline", told)


def training_curve(trainings: Iterable[Training]) -> str:
    """Draw the trainings of a task one after the other over segments; empty where no progress was recorded.

    The loss is on a logarithmic scale between its least and its largest value, the share of exact demonstrations from 0 to 1. Drawn
    without matplotlib, which would take seconds for the curves of all tasks.
    """
    losses, exact, offset = list[list[tuple[float, float]]](), list[list[tuple[float, float]]](), 0.0
    for training in trainings:
        points = [(offset + (p.segments or 0), p) for p in training.points]
        losses.append([(x, math.log(max(p.loss, 1e-9))) for x, p in points if p.loss is not None])
        exact.append([(x, p.demo_exact) for x, p in points if p.demo_exact is not None])
        offset += training.segments
    shares, logs = [y for line in exact for _, y in line], [y for line in losses for _, y in line]
    if not shares or not offset:
        return ""
    low, high = (min(logs), max(logs)) if logs else (0.0, 1.0)
    scaled = [[(x, (y - low) / (high - low or 1.0)) for x, y in line] for line in losses]
    lines = "".join(_polyline(name, line, offset) for name, kind in (("loss", scaled), ("exact", exact)) for line in kind if line)
    told = f"Over {offset:,.0f} segments: exact demonstrations {shares[0]:.0%} at first, {shares[-1]:.0%} at the end"
    if logs:
        told += f"; loss {math.exp(logs[0]):.3g} at first, {math.exp(logs[-1]):.3g} at the end"
    pad, right, bottom = CURVE_PAD, CURVE_WIDTH - CURVE_PAD, CURVE_HEIGHT - CURVE_PAD
    return (
        f'<figure class="curve"><svg role="img" aria-label="{escape(told)}" viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}">'
        f'<path class="frame" d="M{pad} {pad}H{right}M{pad} {bottom}H{right}"/>{lines}</svg><figcaption>'
        '<span class="key exact">exact demonstrations</span><span class="key loss">loss (log scale)</span>'
        f"<small>{escape(told)}.</small></figcaption></figure>"
    )


def _polyline(name: str, points: Sequence[tuple[float, float]], total: float) -> str:
    """Draw `points` from 0..`total` and 0..1, a single one as a dot."""
    width, height = CURVE_WIDTH - 2 * CURVE_PAD, CURVE_HEIGHT - 2 * CURVE_PAD
    placed = [(CURVE_PAD + x / total * width, CURVE_PAD + (1 - y) * height) for x, y in points]
    if len(placed) == 1:
        return f'<circle class="{name}" cx="{placed[0][0]:.1f}" cy="{placed[0][1]:.1f}" r="2.5"/>'
    return f'<polyline class="{name}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}"/>'


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Make an empty chart of `width` x `height` CSS pixels with one pair of axes."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width / 72, height / 72), layout="constrained")
    axes = drawn.add_subplot()
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=FONT_SIZE, length=0, pad=5)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(RULE)
    return drawn, axes


def _svg(drawn: Figure, name: str, label: str) -> str:
    """Write a figure as `<svg>`: `name` is put before its ids, `label` is what a screen reader says."""
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
    svg = re.sub(r"#010a([0-9a-f]{2})", lambda match: f"var(--{VARIABLES[int(match[1], 16) - 1]})", svg)
    svg = re.sub(r"\s*\n\s*", "\n", re.sub(r"(-?\d+\.\d{2})\d+", r"\1", svg))
    size = f"width:{float(width):g}px;max-width:100%;height:auto"
    return f'<svg class="chart" role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" style="{size}">{svg}'


def _clock_time(seconds: float, total: float) -> str:
    """Write `m:ss`, or `h:mm` where the whole takes an hour or more."""
    large, small = divmod(round(seconds), 60) if total < 3600 else divmod(round(seconds / 60), 60)
    return f"{large}:{small:02d}"


def _boxes(axes: Axes, boxes: Sequence[Box], colour: str, label: str) -> None:
    """Draw rectangles as one path: thousands of them are one element of the page."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not boxes:
        return
    corners = [point for x0, x1, y0, y1 in boxes for point in ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(boxes)
    # Not as a patch, whose every corner would be asked for the limits of the axes, which are set anyway.
    axes.add_artist(PathPatch(Path(corners, codes), facecolor=colour, edgecolor="none", label=label))


def _text(axes: Axes, x: float, y: float, text: str, *, ha: str, va: str, colour: str = INK, size: float = FONT_SIZE) -> None:
    # A dollar sign in a task's id starts no formula.
    axes.annotate(text, (x, y), ha=ha, va=va, color=colour, fontsize=size, parse_math=False, annotation_clip=False)
