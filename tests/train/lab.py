"""Small data, small presets, and pre-training runs that take seconds."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.task import Task
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.model.weights import Checkpoint, load_checkpoint
from hrm_submit.train.options import PretrainOptions
from tests.run.lab import TINY_MODEL, recolour, recoloured, tiny

ROOT = Path(__file__).resolve().parents[2]

TINY = (
    TINY_MODEL
    + """[train]
optimizer = "muon"
lr = 3e-3
muon_lr = 1e-2
batch_size = 8
segments = 1
warmup_steps = 5
decay_fraction = 0.5
lr_min_ratio = 0.0
augmentations = 20
translate = false

[vote]
views = 4
act_steps = 1
batch_size = 8

[device]
dtype = "float32"
"""
)


def preset(folder: Path, more: str = "") -> str:
    """The names of presets that make a small model; `more` is layered over it."""
    folder.mkdir(parents=True, exist_ok=True)
    return tiny(folder, more, TINY)


def write_data(folder: Path, n: int = 4, name: str = "little", first: int = 0) -> Path:
    """A challenges file of `n` recolouring tasks of sides 3 to 5, from number `first`, with its solutions beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks: dict[str, Task] = {}
    answers = {}
    for k in range(first, first + n):
        colours = (1 + k % 5, 7, 8)
        task = tasks[f"task{k:02d}"] = recolour(f"task{k:02d}", k, side=3 + k % 3, colours=colours)
        answers[task.id] = tuple(recoloured(grid, colours) for grid in task.test)
    write_challenges(folder / f"{name}_challenges.json", tasks)
    write_solutions(folder / f"{name}_solutions.json", answers)
    return folder / f"{name}_challenges.json"


def asked(folder: Path, preset_text: str = "", data: Path | None = None, **changes: Any) -> PretrainOptions:
    """Options of a run of 10 segments into `folder`/out, a line of metrics each, that protects no set."""
    base: dict[str, Any] = {
        "presets": preset(folder, preset_text),
        "data": str(data or write_data(folder)),
        "out": folder / "out",
        "budget": None,
        "segments": None if changes.get("budget") else 10,
        "devices": "cpu",
        "threads": 1,
        "log_every": 1,
        "protect": (),
    }
    return PretrainOptions(**base | changes)


def options(folder: Path, *more: str, preset_text: str = "", data: str | None = None) -> list[str]:
    """The command line of such a run, without a number of segments; `more` are added."""
    base = ["--preset", preset(folder, preset_text), "--data", data or str(write_data(folder))]
    return [*base, "--out", str(folder / "out"), "--devices", "cpu", "--threads", "1", *more]


def start(
    *arguments: str,
    ranks: int = 1,
    script: Sequence[str] = ("-m", "hrm_submit", "pretrain"),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    """`pretrain` as a process of its own, or under torchrun as several."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *launch, *script, *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Standard output and error of a process that must end well."""
    out, err = process.communicate(timeout=240.0)
    assert process.returncode == 0, err
    return out, err


def lines(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics."""
    return [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]


def state(out: Path) -> dict[str, Any]:
    """The saved state of a run."""
    found: dict[str, Any] = torch.load(out / "state.pt", weights_only=True)
    return found


def exported(out: Path, name: str = "final", rows: bool = False) -> Checkpoint:
    """A checkpoint of a run."""
    return load_checkpoint(out / f"{name}.safetensors", rows=rows)
