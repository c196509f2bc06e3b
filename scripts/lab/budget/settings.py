"""Settings to be played: a recording under a choice of values, and the workers of a machine that need not be at hand."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.preset_files import layer, load_preset
from hrm_submit.config.schema import Preset
from hrm_submit.core.device import cpu_count
from hrm_submit.core.errors import ConfigError
from hrm_submit.record.folder import RunRecord, read_run
from hrm_submit.run.memory import training_bytes, workers_that_fit
from hrm_submit.run.placement import MOST_ON_A_GPU
from lab.budget.recording import Recording
from lab.budget.replay import replay


@dataclass(frozen=True)
class Setting:
    """A recording under one choice of what is varied."""

    name: str
    recording: Recording
    preset: Preset
    changed: dict[str, dict[str, Any]]


def vary(recordings: list[Recording], texts: Sequence[str]) -> list[Setting]:
    """Every recording under every combination of the values that `texts` name. Raises ConfigError."""
    axes = []
    for text in texts:
        key, equals, values = text.partition("=")
        table, dot, name = key.partition(".")
        if not (equals and dot and values) or table not in ("vote", "budget"):
            raise ConfigError(
                f"--vary {text}: write it as budget.size_power=0,0.5 or vote.views=16,32; other tables need runs of their own"
            )
        axes.append([(table, name, _number(value, text)) for value in values.split(",")])
    settings = []
    for recording in recordings:
        base = recording.folders[0].name if len(recordings) > 1 else ""
        for choice in product(*axes):
            changed: dict[str, dict[str, Any]] = {}
            for table, name, value in choice:
                changed.setdefault(table, {})[name] = value
            label = " ".join(filter(None, [base, *(f"{name}={value}" for _, name, value in choice)])) or "as recorded"
            settings.append(Setting(label, recording, layer(recording.preset, changed, "--vary"), changed))
    return settings


def staff(setting: Setting, tasks: list[Task], profile: str | None) -> list[str]:
    """The workers' devices: those that were recorded, or what a profile's machine would have."""
    if profile is None:
        return recorded_devices(setting.recording.folders[0])
    device = load_preset(profile, setting.preset).device
    if not device.count:
        return ["cpu"] * (device.workers or max(1, cpu_count() // device.threads))
    tokens = max(canvas_side(t) for t in tasks) ** 2
    need = training_bytes(setting.preset.model, tokens, setting.preset.ttt.batch_size, element=2, fused_attention=True)
    each = device.workers_per_gpu or workers_that_fit(int(device.memory_gib * 2**30), need, MOST_ON_A_GPU)
    return [f"cuda:{number}" for _ in range(each) for number in range(device.count)]


def recorded_devices(folder: Path) -> list[str]:
    """The workers' devices of a run; this machine's cores where it does not say."""
    recorded = read_run(folder).run.get("devices")
    return [str(d) for d in recorded] if recorded else ["cpu"] * cpu_count()


def play(setting: Setting, tasks: list[Task], workers: list[str], budget: float, scratch: Path, seed: int) -> RunRecord:
    """One run of `tasks` in `budget` seconds, read back; `scratch` holds it until the next one."""
    folder = scratch / "played"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return replay(setting.recording, setting.preset, tasks, workers, budget, folder, seed=seed)


def _number(text: str, where: str) -> float | int:
    try:
        return int(text) if text.strip().lstrip("-").isdigit() else float(text)
    except ValueError:
        raise ConfigError(f"--vary {where}: {text!r} is not a number") from None
