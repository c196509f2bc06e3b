"""The charts of a report as inline SVG that takes its colours and letters from the page around it, light or dark."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import accumulate

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
    """Draw workers over time, those of one node together: phases as bars, planned time as a thin line under them; attempts one after the
    other, each with its budget. Empty where no worker did anything."""
    if not state.stretches:
        return ""
    *offsets, total = accumulate((attempt.end for attempt in state.attempts), initial=0.0)
    budgets = [offset + attempt.budget for offset, attempt in zip(offsets, state.attempts, strict=True) if attempt.budget is not None]
    places = {s.worker: (state.nodes.get(s.worker, ""), s.worker) for s in state.stretches}
    names = {w: f"{node}, worker {w}" if node else f"worker {w}" for w, (node, _) in sorted(places.items(), key=lambda item: item[1])}
    tops = {worker: TOP + ROW * row for row, worker in enumerate(names)}
    left, bottom = 16 + 6.5 * max(map(len, names.values())), TOP + ROW * len(names)
    span = max(total, *offsets, *budgets) or 1.0
    scale = (WIDTH - left - 20) / span

    def at(attempt: int, seconds: float) -> float:
        return left + (offsets[attempt - 1] + seconds) * scale

    def bar(attempt: int, start: float, seconds: float, top: float, height: float) -> str:
        return f"M{at(attempt, start):.1f} {top:.1f}h{seconds * scale:.1f}v{height}H{at(attempt, start):.1f}z"

    def rules(seconds: Iterable[float]) -> str:
        return "".join(f"M{at(1, t):.1f} {TOP}V{bottom}" for t in seconds)

    step = next((s for s in TICK_SECONDS if span / s <= 12), span / 12)
    ticks = [k * step for k in range(int(span / step) + 1)]
    parts = [_path(rules(ticks), "rule", stroke=True)]
    parts += [_text(at(1, t), bottom + 16, format_duration(t), "muted", "middle") for t in ticks]
    parts += [_text(left - 8, tops[worker] + 18, name, "muted", "end") for worker, name in names.items()]
    for phase, colour in PHASE_COLOURS.items():
        spent = [s for s in state.stretches if s.phase == phase]
        parts.append(_path("".join(bar(s.attempt, s.start, s.end - s.start, tops[s.worker] + 6, 16) for s in spent), colour))
    planned = [bar(t.attempt, t.start, t.planned, tops[t.worker] + 25, 3) for t in state.trainings if t.planned is not None]
    starts = [f"M{at(t.attempt, t.start):.1f} {tops[t.worker] + 6}v16" for t in state.trainings]
    parts += [_path("".join(planned), "muted"), _path("".join(starts), "surface", stroke=True)]
    for t in state.trainings:
        if t.seconds * scale > 9 * len(t.task):
            parts.append(_text(at(t.attempt, t.start + t.seconds / 2), tops[t.worker] + 18, t.task, "surface", "middle"))
    parts += [_path(rules(offsets[1:]), "ink", stroke=True, dash="2 3"), _path(rules(budgets), "bad", stroke=True, dash="6 4")]
    told = f"What {len(names)} workers did in {format_duration(total)}: {len(state.trainings)} trainings"
    size = f'viewBox="0 0 {WIDTH} {bottom + 24}" style="width:{WIDTH}px;max-width:100%;height:auto"'
    return f'<svg class="chart" role="img" aria-label="{escape(told)}" font-size="11" {size}>{"".join(parts)}</svg>'


def training_curve(trainings: Iterable[Training]) -> str:
    """Draw the trainings of a task one after the other over segments; empty where no progress was recorded.

    The loss is on a logarithmic scale between its least and its largest value, the share of exact demonstrations from 0 to 1.
    """
    exact, logs, total = list[tuple[float, float]](), list[tuple[float, float]](), 0
    for training in trainings:
        for p in training.points:
            at = total + (p.segments or 0)
            exact += [(at, p.demo_exact)] if p.demo_exact is not None else []
            logs += [(at, math.log(max(p.loss, 1e-9)))] if p.loss is not None else []
        total += training.segments
    if not exact or not total:
        return ""
    low, high = min((y for _, y in logs), default=0.0), max((y for _, y in logs), default=0.0)
    lines = _polyline("loss", [(x, (y - low) / (high - low or 1.0)) for x, y in logs], total) + _polyline("exact", exact, total)
    told = f"Over {total:,} segments: exact demonstrations {exact[0][1]:.0%} at first, {exact[-1][1]:.0%} at the end"
    if logs:
        told += f"; loss {math.exp(logs[0][1]):.3g} at first, {math.exp(logs[-1][1]):.3g} at the end"
    pad, right, bottom = CURVE_PAD, CURVE_WIDTH - CURVE_PAD, CURVE_HEIGHT - CURVE_PAD
    return (
        f'<figure class="curve"><svg role="img" aria-label="{escape(told)}" viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}">'
        f'<path class="frame" d="M{pad} {pad}H{right}M{pad} {bottom}H{right}"/>{lines}</svg><figcaption>'
        '<span class="key exact">exact demonstrations</span><span class="key loss">loss (log scale)</span>'
        f"<small>{escape(told)}.</small></figcaption></figure>"
    )


def _polyline(name: str, points: Sequence[tuple[float, float]], total: float) -> str:
    """Draw `points` from 0..`total` and 0..1; the first one doubled, so that one alone is a dot."""
    width, height = CURVE_WIDTH - 2 * CURVE_PAD, CURVE_HEIGHT - 2 * CURVE_PAD
    placed = [f"{CURVE_PAD + x / total * width:.1f},{CURVE_PAD + (1 - y) * height:.1f}" for x, y in [*points[:1], *points]]
    return f'<polyline class="{name}" points="{" ".join(placed)}"/>'


def _path(d: str, colour: str, *, stroke: bool = False, dash: str = "none") -> str:
    paint = f"fill:none;stroke:var(--{colour});stroke-dasharray:{dash}" if stroke else f"fill:var(--{colour})"
    return f'<path style="{paint}" d="{d}"/>' if d else ""


def _text(x: float, y: float, text: str, colour: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill:var(--{colour})">{escape(text)}</text>'
