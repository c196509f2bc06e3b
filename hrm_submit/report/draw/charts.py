"""The charts of a report, each one figure and one question, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hrm_submit.core.clock import format_duration
from hrm_submit.report.draw.svg import ACCENT, ACCENT2, BAD, FONT_SIZE, GOOD, INK, MUTED, NEAR, NONE, RULE, SURFACE, figure, to_svg
from hrm_submit.report.run.statistics import Group, wilson
from hrm_submit.report.run.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 340, 230
GANTT_WIDTH = 1040
TICK_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
PHASE_COLOURS = {"training": ACCENT, "vote": ACCENT2, "loading": NONE, "lost": BAD}
_BAND_COLOURS = (GOOD, NEAR, ACCENT2, ACCENT2, ACCENT2, ACCENT2, NONE)


def band_chart(groups: Sequence[Group]) -> str:
    """How many tasks have which share of their cells right."""
    drawn, axes = figure(WIDTH, HEIGHT)
    names, counts = [g.name for g in groups], [g.n for g in groups]
    axes.barh(names, counts, color=_BAND_COLOURS, height=0.68)
    axes.invert_yaxis()
    for row, n in enumerate(counts):
        _text(axes, n, row, str(n), ha="left", va="center", offset=(5, 0))
    axes.set_xlim(0, max([*counts, 1]) * 1.15)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", colors=INK)
    return to_svg(drawn, "bands", "Tasks by share of right cells: " + ", ".join(f"{g.name}: {g.n}" for g in groups))


def share_chart(name: str, what: str, groups: Sequence[Group]) -> str:
    """Solved share of each group of tasks, with Wilson's 95 % interval and the group's size."""
    drawn, axes = figure(WIDTH, HEIGHT)
    _share_bars(axes, groups)
    axes.set_xlabel(what, color=MUTED, fontsize=FONT_SIZE)
    told = ", ".join(f"{g.name}: {g.right} of {g.n}" for g in groups)
    return to_svg(drawn, name, f"Solved share by {what}: {told}")


def confidence_chart(groups: Sequence[Group], *, judged: bool) -> str:
    """Right first attempts by their share of the votes; without solutions, how many outputs have which share."""
    drawn, axes = figure(WIDTH, HEIGHT)
    axes.set_xlabel("share of votes for the first attempt", color=MUTED, fontsize=FONT_SIZE)
    if judged:
        _share_bars(axes, groups)
        told = ", ".join(f"{g.name}: {g.right} of {g.n}" for g in groups)
        return to_svg(drawn, "confidence", f"Right first attempts by share of votes: {told}")
    axes.bar([g.name.removesuffix(" %") for g in groups], [g.n for g in groups], color=ACCENT, width=0.68)
    for x, g in enumerate(groups):
        _text(axes, x, g.n, str(g.n), ha="center", va="bottom")
    axes.margins(y=0.12)
    axes.yaxis.set_visible(False)
    return to_svg(drawn, "confidence", "Outputs by share of votes: " + ", ".join(f"{g.name}: {g.n}" for g in groups))


def pass_chart(shares: Sequence[float]) -> str:
    """pass@k for k = 1, 2, ...: what more attempts, or a better order of the candidates, would give."""
    drawn, axes = figure(WIDTH, HEIGHT)
    ks = range(1, len(shares) + 1)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.plot(ks, shares, color=ACCENT, linewidth=2, marker="o", markersize=5)
    if len(shares) > 1:
        axes.plot([2], [shares[1]], color=GOOD, marker="o", markersize=9, linestyle="none")
        _text(axes, 2, shares[1], f"pass@2 {100 * shares[1]:.1f} %", ha="left", va="bottom", offset=(4, 7))
    axes.set_xticks(list(ks))
    axes.set_xlabel("k: attempts that count", color=MUTED, fontsize=FONT_SIZE)
    axes.set_ylim(0, min(1.05, max([*shares, 0.05]) * 1.35))
    axes.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    return to_svg(drawn, "passk", "pass@k: " + ", ".join(f"{k}: {share:.1%}" for k, share in zip(ks, shares, strict=True)))


def gantt(timeline: Timeline) -> str:
    """Workers by time, those of one node together: phases as bars, the share that was planned as a thin line under them, failures as
    crosses; turns are drawn one after the other, each with its budget."""
    offsets = [sum(timeline.ends[:turn]) for turn in range(len(timeline.ends))]
    total = sum(timeline.ends) or 1.0
    nodes = timeline.nodes
    workers = sorted({s.worker for s in timeline.stretches}, key=lambda w: (nodes.get(w, ""), w))
    rows = {worker: row for row, worker in enumerate(workers)}
    drawn, axes = figure(GANTT_WIDTH, 70 + 34 * max(1, len(workers)))
    for phase, colour in PHASE_COLOURS.items():
        part = [s for s in timeline.stretches if s.phase == phase]
        boxes = [(offsets[s.turn] + s.start, offsets[s.turn] + s.end, rows[s.worker] - 0.3, rows[s.worker] + 0.18) for s in part]
        _bars(axes, boxes, colour, phase)
    gap = total * 0.0008
    starts = [(offsets[t.turn] + t.start, t) for t in timeline.trainings]
    _bars(axes, [(x - gap, x + gap, rows[t.worker] - 0.3, rows[t.worker] + 0.18) for x, t in starts], SURFACE, "_")
    planned = [(x, t.planned, rows[t.worker]) for x, t in starts if t.planned is not None]
    _bars(axes, [(x + gap, x + seconds - gap, row + 0.26, row + 0.34) for x, seconds, row in planned], MUTED, "planned share")
    for x, t in starts:
        if t.task.isascii() and t.task.isprintable() and t.seconds / total * GANTT_WIDTH > 9 * len(t.task):
            _text(axes, x + t.seconds / 2, rows[t.worker] - 0.06, t.task, ha="center", va="center", size=9, colour=SURFACE)
    lost = [s for s in timeline.stretches if s.phase == "lost"]
    if lost:
        places = [offsets[s.turn] + s.end for s in lost], [rows[s.worker] - 0.06 for s in lost]
        axes.plot(*places, color=BAD, marker="x", markersize=8, markeredgewidth=2, linestyle="none", label="failure")
    for turn, offset in enumerate(offsets):
        if turn:
            axes.axvline(offset, color=INK, linewidth=1.2, linestyle=":")
        if (budget := timeline.budgets[turn]) is not None:
            axes.axvline(offset + budget, color=BAD, linewidth=1.2, linestyle="--", label="_" if turn else "time budget")
    last = max(total, *(offset + (budget or 0) for offset, budget in zip(offsets, timeline.budgets, strict=True)))
    _time_axis(axes, total, last)
    axes.set_yticks(range(len(workers)), [f"{nodes[w]}, worker {w}" if w in nodes else f"worker {w}" for w in workers])
    for row in (k for k in range(1, len(workers)) if nodes.get(workers[k]) != nodes.get(workers[k - 1])):
        axes.axhline(row - 0.5, color=MUTED, linewidth=0.8)
    axes.set_ylim(max(1, len(workers)) - 0.5, -0.5)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        style = {"ncols": 7, "frameon": False, "fontsize": FONT_SIZE, "labelcolor": INK, "handlelength": 1.2}
        drawn.legend(handles, labels, loc="outside upper left", **style)
    told = f"What {len(workers)} workers did in {format_duration(total)}: {len(starts)} trainings, {len(lost)} losses"
    return to_svg(drawn, "gantt", told)


def _time_axis(axes: Axes, total: float, last: float) -> None:
    step = next((s for s in TICK_SECONDS if total / s <= 12), total / 12)
    axes.set_xlim(0, 1.01 * last)
    axes.set_xticks([k * step for k in range(int(total / step) + 1)])
    axes.xaxis.set_major_formatter(lambda value, _: _clock_time(value, total))
    axes.grid(axis="x", color=RULE, linewidth=0.8)


def _clock_time(seconds: float, total: float) -> str:
    """`m:ss`, or `h:mm` where the whole takes an hour or more."""
    large, small = divmod(round(seconds), 60) if total < 3600 else divmod(round(seconds / 60), 60)
    return f"{large}:{small:02d}"


def _share_bars(axes: Axes, groups: Sequence[Group]) -> None:
    axes.set_ylim(0, 1.18)
    axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    names = [g.name.removesuffix(" %") for g in groups]
    axes.bar(names, [g.share for g in groups], color=GOOD, width=0.68)
    for x, g in enumerate(groups):
        if g.n:
            axes.plot([x, x], wilson(g.right, g.n), color=INK, linewidth=1.2)
        _text(axes, x, 1.04, str(g.n), ha="center", va="bottom", colour=MUTED, size=10)


def _bars(axes: Axes, boxes: Sequence[tuple[float, float, float, float]], colour: str, label: str) -> None:
    """Rectangles (x0, x1, y0, y1) as one path: thousands of them are one element of the page."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not boxes:
        return
    corners = [point for x0, x1, y0, y1 in boxes for point in ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(boxes)
    # Not as a patch, whose every corner would be asked for the limits of the axes, which are set anyway.
    axes.add_artist(PathPatch(Path(corners, codes), facecolor=colour, edgecolor="none", label=label))


def _text(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    ha: str,
    va: str,
    colour: str = INK,
    size: float = FONT_SIZE,
    offset: tuple[float, float] = (0, 0),
) -> None:
    # A dollar sign in a task's id starts no formula.
    axes.annotate(
        text, (x, y), offset, textcoords="offset points", ha=ha, va=va, color=colour, fontsize=size, parse_math=False, annotation_clip=False
    )
