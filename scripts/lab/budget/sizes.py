"""Which size of model a budget is enough for: presets played on the recorded device, and the widest of them that trains for long enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hrm_submit.arc.task import Task
from hrm_submit.config.preset_files import load_preset
from hrm_submit.core.clock import format_duration
from hrm_submit.record.events import TaskFinal
from hrm_submit.run.memory import parameters
from lab.budget.recording import Recording
from lab.budget.settings import Setting, play, staff

PRESETS = ("nano-2d", "gpu-small", "gpu-base")
"""Of one recipe, narrowest first."""
ENOUGH = 3500
"""Examples of a task (segments x batch) from which a wider model is taken to pay: in `scripts/ablations/scaling-tried.md` width 256 is
ahead of 128 after 3,560 a task and behind it after 880. That was of small tasks trained together: an estimate elsewhere."""


def show_sizes(recording: Recording, tasks: list[Task], profile: str | None, budget: float, scratch: Path, seed: int) -> int:
    """Print what each of PRESETS would get, and name the one that suits `budget` seconds."""
    table = sizes(recording, tasks, profile, budget, scratch, seed)
    best = suited(table)
    print(table.to_string(index=False, float_format=lambda x: f"{x:,.1f}"))
    counts = f"{best['segments']:,.0f} segments and {best['examples']:,.0f} examples a task"
    told = "" if best["examples"] >= ENOUGH else f", fewer than the {ENOUGH:,} examples from which a wider model is estimated to pay"
    print(f"\nsuits {format_duration(budget)} for {len(tasks)} tasks: {best['preset']}, {counts}{told}")
    return 0


def sizes(recording: Recording, tasks: list[Task], profile: str | None, budget: float, scratch: Path, seed: int) -> pd.DataFrame:
    """A row for each of PRESETS: `parameters` in millions, `workers`, `segments` of a task's first training in the median and in the
    slowest tenth, its `examples` in the median, `views` of a last vote in the mean. What was recorded of when votes agree is left out:
    it is of another model."""
    rows = []
    for name in PRESETS:
        preset = load_preset(profile, load_preset(name)) if profile else load_preset(name)
        device = Recording(preset, recording.segment, recording.view, recording.start_ups, recording.set_ups, folders=recording.folders)
        setting = Setting(name, device, preset, {})
        workers = staff(setting, tasks, profile)
        played = play(setting, tasks, workers, budget, scratch, seed)
        first = [e for e in played.events if isinstance(e, TaskFinal) and not e.restart]
        segments = [e.segments or 0 for e in first] + [0] * (len(tasks) - len(first))
        rows.append(
            {
                "preset": name,
                "parameters": parameters(preset.model) / 1e6,
                "workers": len(workers),
                "segments": float(np.median(segments)),
                "slowest tenth": float(np.percentile(segments, 10)),
                "examples": float(np.median(segments)) * preset.ttt.batch_size,
                "views": float(np.mean([e.views or 0 for e in first])) if first else 0.0,
            }
        )
    return pd.DataFrame(rows)


def suited(table: pd.DataFrame) -> pd.Series[Any]:
    """The row of a table of `sizes`, narrowest first, of the widest preset whose median task gets ENOUGH examples; of the narrowest where
    none does."""
    enough = table[table["examples"] >= ENOUGH]
    return table.iloc[0] if enough.empty else enough.iloc[-1]
