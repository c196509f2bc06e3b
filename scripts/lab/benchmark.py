"""Rows of the benchmark, each against a baseline of the same run, and the table of them."""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hrm_submit.arc.augment import augmentation_arrays, sample_augmentations
from hrm_submit.arc.canvas import PackedPairs, encode, sample_offsets
from hrm_submit.arc.sizes import answering_side, canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.core.device import cpu_count, keep_freed_memory, list_devices, machine, on_threads
from hrm_submit.core.errors import ConfigError
from hrm_submit.core.files import sha256_of
from hrm_submit.corpora.sources import load
from hrm_submit.model import cpu_functions, layers
from hrm_submit.model.packaged import packaged_checkpoint, resolve_preset
from hrm_submit.model.weights import build, load_checkpoint
from hrm_submit.predict.answer import answer
from lab.published import ACT_STEPS, SIDE, SMALL, augmented, kit_way, medians, published_way, seconds, segment

PRESETS = ("hrm-27m", "hrm-7m", "nano", "nano-2d")
"""Of training and memory."""
REPEATS, TASKS = 3, 3
"""Timed rounds of each row, and tasks, spread over the sizes."""
SIDES = (10, 20, SIDE)
MIDDLE_SIDE = 16
"""Canvas of the middle task of ARC-AGI-1 evaluation."""
AUGMENTED = 768
"""Examples of a batch in the augmentation rows, as published."""
CPU_VIEWS = 8
"""Views of a vote on a CPU, where the published way takes seconds a view."""
CLEAR = Path("/proc/self/clear_refs")
SCRIPTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """A value in `unit`, and that of its baseline in the same unit."""

    group: str
    what: str
    value: float
    unit: str
    baseline: str
    base_value: float

    @property
    def ratio(self) -> float:
        """Value against baseline, above 1 where the value is better."""
        return self.base_value / self.value if self.unit in ("s", "ms", "MiB") else self.value / self.base_value

    def cells(self) -> dict[str, str]:
        """The row as text, by column."""
        value, baseline = f"{shown(self.value)} {self.unit}", f"{shown(self.base_value)}, {self.baseline}"
        return {"row": self.group, "what": self.what, "value": value, "baseline": baseline, "ratio": f"{self.ratio:.2f}"}


def measure(args: argparse.Namespace) -> int:
    """Measure the rows asked for, print each when it is done, and write them. Raises UserError."""
    if unknown := sorted(set(args.rows) - set(GROUPS)):
        raise ConfigError(f"no row {', '.join(unknown)}; known: {', '.join(GROUPS)}")
    if args.json and not args.json.parent.is_dir():
        raise ConfigError(f"{args.json}: no such folder")
    device = list_devices(args.devices)[0]
    if device == "cpu":
        keep_freed_memory()
    about = {"machine": machine(), "device": device, "python": platform.python_version()}
    about |= {name: version(name) for name in ("hrm-submit", "torch", "numpy", "numba")}
    print(", ".join(f"{key} {value}" for key, value in about.items()), file=sys.stderr)
    found: list[Row] = []
    for name in [group for group in GROUPS if group in args.rows or not args.rows]:
        for row in GROUPS[name](device):
            found.append(row)
            print("  ".join(row.cells().values()), file=sys.stderr, flush=True)
    print(pd.DataFrame([row.cells() for row in found]).to_string(index=False))
    if args.json:
        args.json.write_text(json.dumps(as_record(about, found), indent=1) + "\n", encoding="utf-8")
    return 0


def as_record(about: Mapping[str, str], found: Sequence[Row]) -> dict[str, Any]:
    """Return the rows as a record that docs/ quotes (`scripts/docs_check.py`)."""
    checkpoint, command = packaged_checkpoint(""), " ".join(["python", *sys.argv])
    what = "speeds, each against a baseline of the same run"
    return {
        "about": {"what": what, "command": command, "date": date.today().isoformat(), **about},
        "weights": sha256_of(checkpoint) if checkpoint else None,
        "values": {group: {r.what: {"value": r.value, "ratio": r.ratio} for r in found if r.group == group} for group in GROUPS},
        "table": [row.cells() for row in found],
    }


def shown(value: object) -> str:
    """Format a float with four digits and no exponent; anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    digits = f"{value:.4g}"
    return f"{float(digits):,.0f}" if "e+" in digits else digits


def sample(n: int) -> list[Task]:
    """Return `n` tasks of ARC-AGI-1 evaluation, spread evenly over the canvas sizes."""
    tasks = sorted(load("arc-agi-1-evaluation").values(), key=lambda t: (canvas_side(t), t.id))
    return [tasks[int((k + 0.5) * len(tasks) / n)] for k in range(n)]


def augmentation(device: str) -> Iterator[Row]:
    """Examples a second of augmentation and tokens, on one thread and on all cores, against the published rule in numpy."""
    rng, cores = np.random.default_rng(0), cpu_count()
    tasks = sample(6 * TASKS)
    pairs, batches = [pair for task in tasks for pair in task.train], []
    for task in tasks:
        packed, views = PackedPairs.from_pairs(task.train), sample_augmentations(task, 200, rng)
        turns, colours = augmentation_arrays([views[k] for k in rng.integers(0, len(views), AUGMENTED)])
        batches.append((packed, rng.integers(0, len(packed), AUGMENTED), turns, colours, canvas_side(task)))

    def encoded(first: int, step: int, full: bool) -> None:
        drawn = np.random.default_rng(first)
        for packed, index, turns, colours, own in batches[first::step]:
            side = SIDE if full else own
            encode(packed, index, turns, colours, side, sample_offsets(packed, index, turns, side, drawn))

    with ThreadPoolExecutor(cores) as pool:
        took = medians(
            {
                "numpy": lambda: [augmented(pair, rng) for pair in pairs for _ in range(20)],
                "30x30 canvas, one thread": lambda: encoded(0, 1, True),
                f"30x30 canvas, {cores} threads": lambda: list(pool.map(lambda k: encoded(k, cores, True), range(cores))),
                f"own canvas, {cores} threads": lambda: list(pool.map(lambda k: encoded(k, cores, False), range(cores))),
            },
            repeats=REPEATS,
        )
    base = 20 * len(pairs) / took.pop("numpy")
    for name, spent in took.items():
        yield Row("augmentation", name, AUGMENTED * len(tasks) / spent, "examples/s", "published rule in numpy", base)


def training(device: str) -> Iterator[Row]:
    """Examples a second of a segment on three canvases, against the published way's 900 tokens; on a GPU compiled too."""
    for name in PRESETS:
        kit = kit_way(name, device)
        ways = {"": kit} if device == "cpu" else {"": kit, ", compiled": replace(kit, runtime=replace(kit.runtime, engine="compile"))}
        with on_threads(1 if kit.preset.model.hidden_size <= SMALL else torch.get_num_threads()):
            calls = {f"{name}, {side * side} tokens{how}": segment(way, side) for side in SIDES for how, way in ways.items()}
            took = medians({"": segment(published_way(kit), SIDE), **calls}, repeats=REPEATS, device=device)
        base, size = took.pop(""), kit.preset.ttt.batch_size
        for what, spent in took.items():
            yield Row("training", what, size / spent, "examples/s", "published way", size / base)


def inference(device: str) -> Iterator[Row]:
    """Test grids a second of votes on each task's own canvas, against 16 steps of 900 tokens."""
    tasks = sample(TASKS)
    with on_threads(1):
        kit, published = (_voter(device, way) for way in ("kit", "published"))
        took = medians({task.id: partial(kit, task) for task in tasks}, repeats=REPEATS, device=device)
        # On 900 tokens every test grid costs the same.
        base = 1 / median(seconds(partial(published, task), device) / len(task.test) for task in tasks)
    rate = sum(len(task.test) for task in tasks) / sum(took.values())
    yield Row("inference", "nano, 8 views, own canvas, 1 step", rate, "test grids/s", f"{ACT_STEPS} steps, 900 tokens", base)


def _voter(device: str, way: str) -> Callable[[Task], object]:
    """Return a call that votes on a task with the packaged weights, as the kit does or as published."""
    checkpoint = packaged_checkpoint("")
    assert checkpoint is not None, "the package carries a checkpoint"
    kit, weights = kit_way(resolve_preset("", checkpoint), device), load_checkpoint(checkpoint)
    config, side, runtime = replace(kit.preset.vote, views=CPU_VIEWS), None, kit.runtime
    if way == "published":  # the model is made to take all 16 steps
        weights = replace(weights, config=replace(weights.config, halt_max_steps=ACT_STEPS))
        config, side, runtime = replace(config, act_steps=ACT_STEPS), SIDE, published_way(kit).runtime
    model, embedding = build(weights, runtime)
    if way == "published" and device != "cpu":
        model.compile(dynamic=False)

    def vote(task: Task) -> object:
        views = sample_augmentations(task, CPU_VIEWS, np.random.default_rng(0), colours=kit.preset.ttt.colours)
        canvas = side or answering_side(task, translate=kit.preset.ttt.translate)
        return answer(model, embedding, task, views, [0] * len(views), config, side=canvas)

    return vote


def memory(device: str) -> Iterator[Row]:
    """Peak MiB that two segments, or a vote, on a canvas of side 16 add to a process, against the published way."""
    if device == "cpu" and not CLEAR.exists():
        return  # only Linux tells the peak of a part of a process
    for name in [*PRESETS, ""]:
        found = []
        for way in ("kit", "published"):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                found.append(max(1.0, fresh.submit(added_mib, name, way, device).result()))
        yield Row("memory", f"{name}, training" if name else "nano, inference", found[0], "MiB", "published way", found[1])


def added_mib(name: str, way: str, device: str) -> float:
    """Return the peak MiB that training the preset `name`, or a vote where it is empty, adds to this process."""
    if name:
        chosen = kit_way(name, device) if way == "kit" else published_way(kit_way(name, device))
        train = partial(segment, chosen, MIDDLE_SIDE if way == "kit" else SIDE)
        return _added(lambda: [call() for call in [train()] for _ in range(2)], device)
    (task,) = sample(1)
    return _added(lambda: _voter(device, way)(task), device)


def _added(work: Callable[[], object], device: str) -> float:
    if device != "cpu":
        torch.cuda.init()  # resetting the peak fails in a process that has not touched the GPU
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) / 2**20
    CLEAR.write_text("5")  # forgets the peak of the imports (proc(5))
    before = _peak_mib()
    work()
    return _peak_mib() - before


def _peak_mib() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**10


def start(device: str) -> Iterator[Row]:
    """Seconds of a process that shows help, imports, or trains a first segment; caches are warm."""
    first = f"from lab.published import kit_way, segment; segment(kit_way('nano', {device!r}), 10)().item()"
    codes = {
        "bare": ["-c", "pass"],
        "torch": ["-c", "import torch"],
        "hrm-submit --help": ["-m", "hrm_submit", "--help"],
        "importing all that a worker needs": ["-c", "import hrm_submit.run.worker"],
        "nano's first segment": ["-c", first],
    }
    path = os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent), os.environ.get("PYTHONPATH", "")])

    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path})

    took = medians({name: partial(run, *words) for name, words in codes.items()}, repeats=REPEATS)
    bare, torch_alone = took.pop("bare"), took.pop("torch")
    for name, spent in took.items():
        base = ("an empty interpreter", bare) if name.endswith("--help") else ("importing torch", torch_alone)
        yield Row("start", name, spent, "s", *base)


def kernels(device: str) -> Iterator[Row]:
    """Milliseconds of `nano-2d`'s axial attention, forward and backward, by the compiled kernel against torch's operations."""
    way = kit_way("nano-2d", "cpu")
    model, size, dtype = way.preset.model, way.preset.ttt.batch_size, getattr(torch, way.runtime.dtype)
    calls: dict[tuple[int, str], Callable[[], object]] = {}
    for side in SIDES if device == "cpu" else ():
        shape = (size, side * side + model.puzzle_emb_len, 3, model.num_heads, model.hidden_size // model.num_heads)
        qkv, rotary = torch.randn(shape).to(dtype).requires_grad_(), layers.rotary_tables(side, shape[-1], model.rope_theta)
        for how in ("kit", "torch"):
            calls[side, how] = partial(_attend_lines, how, qkv, rotary, side, way.runtime.attention)
    with on_threads(1):
        took = medians(calls, repeats=10 * REPEATS)
    for side in sorted({side for side, _ in took}):
        spent, base = (1000 * took[side, how] for how in ("kit", "torch"))
        yield Row("kernels", f"axial attention, {side * side} tokens, {way.runtime.dtype}", spent, "ms", "torch", base)


def _attend_lines(how: str, qkv: Tensor, rotary: layers.Rotary, side: int, kind: layers.AttentionKind) -> None:
    """Attend as a block does, with the heads joined at the end, and backward."""
    if how == "kit":
        mixed = cpu_functions.attend_lines(qkv, *rotary, side)
    else:
        mixed = layers.attend_lines(qkv.permute(2, 0, 3, 1, 4), rotary, side, kind).transpose(1, 2)
    joined = mixed.reshape(*qkv.shape[:2], -1)
    joined.backward(torch.ones_like(joined))


GROUPS: Mapping[str, Callable[[str], Iterator[Row]]] = {
    "augmentation": augmentation,
    "training": training,
    "inference": inference,
    "memory": memory,
    "start": start,
    "kernels": kernels,
}
