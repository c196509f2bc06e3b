"""The charts of a report as inline SVG that takes its colours and letters from the page around it, light or dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from hrm_submit.core.clock import format_duration
from hrm_submit.record.state import RunState, Training

WIDTH, TOP, ROW = 1040, 8, 34
"""Pixels: of the time line, above it, and of a worker."""
TICK_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
PHASE_COLOURS = {"training": "accent", "vote": "accent2", "loading": "none", "lost": "bad"}
LEGEND = PHASE_COLOURS | {"planned time": "muted", "time budget": "bad"}
"""Name and colour of what the time line shows. The page has it outside of what scrolls."""
CURVE_WIDTH, CURVE_HEIGHT, CURVE_PAD = 320, 96, 6


def timeline_chart(state: RunState) -> str:
    """Draw workers over time, those of one node together: phases as bars, planned time as a thin line under them, lost work crossed;
    attempts one after the other, each with its budget. Empty where no worker did anything."""
    if not state.stretches:
        return ""
    ends, nodes = [attempt.end for attempt in state.attempts], state.nodes
    offsets = [sum(ends[:k]) for k in range(len(ends))]
    budgets = [offset + attempt.budget for offset, attempt in zip(offsets, state.attempts, strict=True) if attempt.budget is not None]
    total = sum(ends) or 1.0
    workers = sorted({s.worker for s in state.stretches}, key=lambda w: (nodes.get(w, ""), w))
    names = {w: f"{nodes[w]}, worker {w}" if w in nodes else f"worker {w}" for w in workers}
    left, bottom = 16 + 6.5 * max(map(len, names.values())), TOP + ROW * len(workers)
    tops = {worker: TOP + ROW * row for row, worker in enumerate(workers)}
    scale = (WIDTH - left - 20) / max(total, *offsets, *budgets)

    def at(attempt: int, seconds: float) -> float:
        return left + (offsets[attempt - 1] + seconds) * scale

    def bar(attempt: int, start: float, end: float, top: float, height: float) -> str:
        return f"M{at(attempt, start):.1f} {top:.1f}h{(end - start) * scale:.1f}v{height}H{at(attempt, start):.1f}z"

    step = next((s for s in TICK_SECONDS if total / s <= 12), total / 12)
    ticks = [k * step for k in range(int(total / step) + 1)]
    parts = [_path("".join(f"M{at(1, t):.1f} {TOP}V{bottom}" for t in ticks), "rule", stroke=True)]
    parts += [_text(at(1, t), bottom + 16, _clock_time(t, total), "muted", "middle") for t in ticks]
    parts += [_text(left - 8, tops[w] + 18, name, "muted", "end") for w, name in names.items()]
    for phase, colour in PHASE_COLOURS.items():
        bars = "".join(bar(s.attempt, s.start, s.end, tops[s.worker] + 6, 16) for s in state.stretches if s.phase == phase)
        parts.append(_path(bars, colour))
    planned = [(t, t.planned) for t in state.trainings if t.planned is not None]
    if planned:
        parts.append(_path("".join(bar(t.attempt, t.start, t.start + p, tops[t.worker] + 25, 3) for t, p in planned), "muted"))
    starts = "".join(f"M{at(t.attempt, t.start):.1f} {tops[t.worker] + 6}v16" for t in state.trainings)
    parts.append(_path(starts, "surface", stroke=True))
    for t in state.trainings:
        if t.seconds * scale > 9 * len(t.task):
            parts.append(_text(at(t.attempt, t.start + t.seconds / 2), tops[t.worker] + 18, t.task, "surface", "middle"))
    lost = [(at(s.attempt, s.end), tops[s.worker] + 10) for s in state.stretches if s.phase == "lost"]
    parts.append(_path("".join(f"M{x - 4:.1f} {y}l8 8m0-8l-8 8" for x, y in lost), "bad", stroke=True))
    parts.append(_path("".join(f"M{left + x * scale:.1f} {TOP}V{bottom}" for x in offsets[1:]), "ink", stroke=True, dash="2 3"))
    if budgets:
        parts.append(_path("".join(f"M{left + x * scale:.1f} {TOP}V{bottom}" for x in budgets), "bad", stroke=True, dash="6 4"))
    told = f"What {len(workers)} workers did in {format_duration(total)}: {len(state.trainings)} trainings, {len(lost)} losses"
    size = f'viewBox="0 0 {WIDTH} {bottom + 24}" style="width:{WIDTH}px;max-width:100%;height:auto"'
    return f'<svg class="chart" role="img" aria-label="{escape(told)}" font-size="11" {size}>{"".join(parts)}</svg>'


def training_curve(trainings: Iterable[Training]) -> str:
    """Draw the trainings of a task one after the other over segments; empty where no progress was recorded.

    The loss is on a logarithmic scale between its least and its largest value, the share of exact demonstrations from 0 to 1.
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


def _path(d: str, colour: str, *, stroke: bool = False, dash: str = "none") -> str:
    paint = f"fill:none;stroke:var(--{colour});stroke-dasharray:{dash}" if stroke else f"fill:var(--{colour})"
    return f'<path style="{paint}" d="{d}"/>' if d else ""


def _text(x: float, y: float, text: str, colour: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill:var(--{colour})">{escape(text)}</text>'


def _clock_time(seconds: float, total: float) -> str:
    """Write `m:ss`, or `h:mm` where the whole takes an hour or more."""
    large, small = divmod(round(seconds), 60) if total < 3600 else divmod(round(seconds / 60), 60)
    return f"{large}:{small:02d}"
