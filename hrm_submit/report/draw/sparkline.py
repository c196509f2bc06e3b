"""The curve of a task's training: loss and right demonstrations over segments, as a small SVG without axes to speak of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from hrm_submit.report.run.timeline import Training

WIDTH, HEIGHT, PAD = 320, 96, 6


def training_curve(trainings: Sequence[Training]) -> str:
    """Trainings one after the other; empty where no progress was recorded.

    The loss is drawn on a logarithmic scale between its least and its largest value, the share of right demonstrations
    from 0 (bottom) to 1 (top).
    """
    placed: list[list[tuple[float, float | None, float | None]]] = []
    offset = 0.0
    for training in trainings:
        before = 0
        run: list[tuple[float, float | None, float | None]] = []
        for point in training.points:
            if point.segments < before:  # begun anew within its share
                placed, offset, run = [*placed, run], offset + before, []
            before = point.segments
            run.append((offset + point.segments, point.loss, point.demo_exact))
        placed, offset = [*placed, run], offset + max(before, training.segments)
    losses = [math.log(max(loss, 1e-9)) for run in placed for _, loss, _ in run if loss is not None]
    exact = [share for run in placed for _, _, share in run if share is not None]
    if not exact or not offset:
        return ""
    low, high = (min(losses), max(losses)) if losses else (0.0, 1.0)
    scale = high - low or 1.0
    lines = ""
    for run in placed:
        lines += _line("loss", [(x, (math.log(max(loss, 1e-9)) - low) / scale) for x, loss, _ in run if loss is not None], offset)
        lines += _line("exact", [(x, share) for x, _, share in run if share is not None], offset)
    told = f"Over {offset:,.0f} segments: right demonstrations {exact[0]:.0%} at first, {exact[-1]:.0%} at the end"
    if losses:
        told += f"; loss {math.exp(losses[0]):.3g} at first, {math.exp(losses[-1]):.3g} at the end"
    key = '<span class="key exact">right demonstrations</span><span class="key loss">loss (log scale)</span>'
    return (
        f'<figure class="curve"><svg role="img" aria-label="{escape(told)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<path class="frame" d="M{PAD} {PAD}H{WIDTH - PAD}M{PAD} {HEIGHT - PAD}H{WIDTH - PAD}"/>{lines}</svg>'
        f"<figcaption>{key}<small>{escape(told)}.</small></figcaption></figure>"
    )


def _line(name: str, points: Sequence[tuple[float, float]], total: float) -> str:
    """`points` from 0..`total` and 0..1 as a polyline, a single one as a dot."""
    if not points:
        return ""
    placed = [(PAD + x / total * (WIDTH - 2 * PAD), HEIGHT - PAD - y * (HEIGHT - 2 * PAD)) for x, y in points]
    if len(placed) == 1:
        return f'<circle class="{name}" cx="{placed[0][0]:.1f}" cy="{placed[0][1]:.1f}" r="2.5"/>'
    return f'<polyline class="{name}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}"/>'
