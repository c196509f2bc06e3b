"""Small tasks, a small preset, and runs of `solve` and of a worker that take seconds."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.submission import file_faults
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.schema import Preset
from hrm_submit.corpora.sources import load

TINY_MODEL = """
[model]
hidden_size = 32
num_heads = 2
H_layers = 1
L_layers = 1
H_cycles = 1
L_cycles = 1
puzzle_emb_ndim = 32
halt_max_steps = 1
halt_exploration_prob = 0.0
continue_target = false
gradient = "all"
embedding = "shared"

"""

TINY = (
    TINY_MODEL
    + """
[ttt]
optimizer = "muon"
lr = 3e-3
muon_lr = 1e-2
batch_size = 16
segments = 1
warmup_steps = 5
decay_fraction = 0.5
lr_min_ratio = 0.05
augmentations = 60
colours = "fixed"
translate = false

[vote]
views = 8
act_steps = 1
batch_size = 16

[device]
workers = 1
dtype = "float32"
"""
)


def tiny(folder: Path, more: str = "", base: str = TINY) -> str:
    """The names of presets that make a small model; `more` is a preset laid over it."""
    names = []
    for name, text in (("tiny", base), ("more", more)):
        if text:
            path = folder / f"{name}.toml"
            path.write_text(text)
            names.append(str(path))
    return ",".join(names)


def tiny_preset(folder: Path, more: str = "") -> Preset:
    """The preset itself."""
    return load_preset(tiny(folder, more))


def recolour(task_id: str, seed: int = 0, side: int = 3, colours: Sequence[int] = (1, 2, 3), outputs: int = 1) -> Task:
    """Each colour of the input becomes the next one of `colours`; the answer is `recoloured` of a test input."""
    rng = np.random.default_rng(seed)
    inputs = [make_grid(rng.choice(colours, (side, side))) for _ in range(4 + outputs)]
    return Task(task_id, tuple(Pair(grid, recoloured(grid, colours)) for grid in inputs[:4]), tuple(inputs[4:]))


def recoloured(grid: Any, colours: Sequence[int] = (1, 2, 3)) -> Any:
    """The rule of `recolour`."""
    follows = dict(zip(colours, (*colours[1:], colours[0]), strict=True))
    return make_grid([[follows[int(c)] for c in row] for row in grid])


def challenges(folder: Path, n: int, **options: Any) -> Path:
    """A challenges file of `n` recolouring tasks."""
    path = folder / "challenges.json"
    write_challenges(path, {f"task{k:02d}": recolour(f"task{k:02d}", k, **options) for k in range(n)})
    return path


def command(challenges_file: Path, output: Path, *options: str) -> list[str]:
    """The command line of a `solve` on the CPU."""
    base = [sys.executable, "-m", "hrm_submit", "solve", "--devices", "cpu"]
    return [*base, "--challenges", str(challenges_file), "--output", str(output), *options]


def events(run_dir: Path, event: str | None = None) -> list[dict[str, Any]]:
    """The whole lines of a run's events so far, of one kind or all."""
    path = run_dir / "events.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    found = [json.loads(line) for line in lines if line.strip()]
    return [e for e in found if event in (None, e["event"])]


def changed(submission: Path, final: dict[tuple[str, int], list[Any]]) -> list[str]:
    """Return the outputs whose attempts do not begin with their final answers."""
    content = json.loads(submission.read_bytes()) if final else {}
    shown = {(task, k): [*content[task][k].values()] for task, k in final}
    return [f"{task}: output {k} has lost its final answer" for (task, k), grids in final.items() if shown[task, k][: len(grids)] != grids]


class Reader(threading.Thread):
    """Reads a submission from its first moment until stopped; `faults` keeps what was wrong at any time."""

    def __init__(self, submission: Path, challenges_file: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.tasks, self.over = submission, load(challenges_file), threading.Event()
        self.reads, self.faults, self.final = 0, set[str](), dict[tuple[str, int], list[Any]]()

    def run(self) -> None:
        while not self.over.wait(0.02):
            if self.reads or self.path.exists():
                final = self.final  # set before the file is read, so that the file must show it
                self.faults |= set(file_faults(self.path, self.tasks) or changed(self.path, final))
                self.reads += 1


def workers(supervisor: int) -> list[psutil.Process]:
    """The live workers of the process with that number, in the order in which they were started."""
    found = []
    with suppress(psutil.Error):
        for child in psutil.Process(supervisor).children():
            with suppress(psutil.Error):
                found += [child] if any("spawn_main" in word for word in child.cmdline()) else []
    return sorted(found, key=lambda process: process.pid)


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 120.0) -> Any:
    """The first true value of `condition`; fails where the process ends before, or nothing comes for `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        if process.poll() is not None:
            raise AssertionError(f"the process ended with {process.returncode}: {process.communicate()[1]}")
        time.sleep(0.02)
    process.kill()
    raise AssertionError("what was waited for never came")
