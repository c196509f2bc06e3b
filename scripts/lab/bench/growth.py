"""How seconds grow with tokens, with the batch, and with the number of tasks; and their plot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from hrm_submit.arc.canvas import position_ids
from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.schema import Preset
from hrm_submit.model.act import Batch
from hrm_submit.train.loop import CanvasBatch
from lab.bench import scale
from lab.bench.rows import Row, against
from lab.bench.timing import medians, seconds
from lab.bench.work import ARC_1, by_size, our_way, segment, trainer

LINES = "nano-2d"
"""The preset that is measured beside the package's own: its H sees lines of cells."""
SIDES = (5, 10, 15, 20, 25, 30)
BATCHES = (1, 2, 4, 8, 16, 32)
TASKS = (1, 2, 4, 8)
SEGMENTS = 20
"""Of each task's test-time training."""
TASK_SIDE = 10
"""All tasks need this canvas, so that only their number grows."""

LABELS = {"tokens": "tokens, batch 8", "batch": "batch, 100 tokens", "tasks": f"tasks, {SEGMENTS} segments and a vote each"}


def rows(repeats: int, device: str, preset: Preset) -> list[Row]:
    """Seconds of a training segment of `preset`, the package's own, against tokens, with `nano-2d` beside it, and against the batch, and of
    `solve` against tasks; and what the supervisor costs where workers and tasks are many."""
    presets = {"nano": preset, LINES: load_preset(LINES)}
    segments = {(name, s * s): _segment(chosen, s, 8, device) for s in SIDES for name, chosen in presets.items()}
    by_tokens = medians(segments, repeats=repeats, device=device)
    by_batch = medians({str(b): _segment(preset, 10, b, device) for b in BATCHES}, repeats=repeats, device=device)
    found = []
    for n in (s * s for s in SIDES):
        ours, lines = by_tokens["nano", n], by_tokens[LINES, n]
        found.append(Row("growth", f"nano's segment, {n} tokens, batch 8", ours, "s", more={"tokens": n}))
        more = {"tokens": n, "preset": LINES}
        found.append(against("growth", f"{LINES}'s segment, {n} tokens, batch 8", "s", lines, "nano's", ours, faster=False, more=more))
    found += [Row("growth", f"nano's segment, 100 tokens, batch {b}", s, "s", more={"batch": int(b)}) for b, s in by_batch.items()]
    found += [Row("growth", f"solve, {n} task{'s' * (n > 1)}", _solve(n, device), "s", more={"tasks": n}) for n in TASKS]
    return found + scale.rows()


def draw(found: Sequence[Row], path: Path) -> None:
    """One picture of the growth among `found`: `path` ends in .svg, .png or .pdf."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(LABELS)), LABELS.items(), strict=True):
        shown = [row for row in found if row.group == "growth" and key in row.more]
        for preset in dict.fromkeys(row.more.get("preset", "nano") for row in shown):
            line = [row for row in shown if row.more.get("preset", "nano") == preset]
            axes.loglog([row.more[key] for row in line], [row.value for row in line], marker="o", label=preset)
        if len(axes.lines) > 1:
            axes.legend()
        axes.set_xticks(sorted({row.more[key] for row in shown}))
        axes.xaxis.set_major_formatter("{x:g}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set(xlabel=label, ylabel="seconds")
        axes.grid(alpha=0.3, which="both")
    figure.savefig(path)


def _segment(preset: Preset, side: int, size: int, device: str) -> Callable[[], object]:
    inputs = torch.randint(0, 12, (size, side * side), generator=torch.Generator().manual_seed(0)).to(device)
    ids = torch.zeros(size, dtype=torch.long, device=device)
    way = our_way(replace(preset, ttt=replace(preset.ttt, batch_size=size)), device)
    return segment(trainer(way), CanvasBatch(Batch(inputs, inputs, ids, ids), torch.from_numpy(position_ids(side)).to(device)))


def _solve(n: int, device: str) -> float:
    """Seconds of the command, its start and its workers' among them."""
    with TemporaryDirectory() as folder:
        challenges, output = Path(folder) / "challenges.json", Path(folder) / "submission.json"
        alike = [task for task in by_size(ARC_1) if canvas_side(task) == TASK_SIDE]
        write_challenges(challenges, {task.id: task for task in alike[:n]})
        command = [sys.executable, "-m", "hrm_submit", "solve", "--challenges", challenges, "--output", output]
        options = ["--segments-per-task", str(SEGMENTS), "--devices", device]
        return seconds(lambda: subprocess.run([*map(str, command), *options], capture_output=True, check=True))
