"""The runs of a plan: every variant with every seed, its tasks and preset, and a key made of all that decides its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrm_submit.arc.canonical import pair_hashes
from hrm_submit.arc.canvas import check_model
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Grid, Solutions, Task
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.config.preset_files import layer, load_preset
from hrm_submit.config.schema import Preset
from hrm_submit.core.device import list_devices
from hrm_submit.core.errors import ConfigError
from hrm_submit.corpora.solutions import solved_pairs
from hrm_submit.corpora.sources import load_source
from hrm_submit.model.packaged import packaged_checkpoint
from lab.ablation_plan import TABLES, Kind, Plan, TaskChoice, Variant

SETTINGS: Mapping[str, tuple[str, ...]] = {"train": ("model", "train", "vote", "device"), "ttt": ("model", "ttt", "vote", "device")}
"""Tables of a preset that decide a run of each kind."""
DEVICE_KEYS = ("dtype", "attention", "engine")
"""The keys of [device] that decide what comes out: a run has one process of one thread."""


@dataclass(frozen=True, eq=False)
class ChosenTasks:
    """Tasks of one source, named `name`, and the answers to their tests."""

    name: str
    tasks: Mapping[str, Task]
    solutions: Solutions

    def sources(self) -> list[TrainingTask]:
        """The demonstrations of the tasks, to train on."""
        return [TrainingTask(Task(f"{self.name}/{key}", task.train, task.test), key) for key, task in self.tasks.items()]

    def test_hashes(self) -> frozenset[str]:
        """Canonical hashes of all test pairs. Raises DataError where inputs and answers differ in number."""
        pairs = (pair for key, task in self.tasks.items() for pair in solved_pairs(task, tuple(self.solutions[key])))
        return frozenset(pair_hashes(pairs))

    def digest(self, kind: Kind) -> str:
        """SHA-256 of what a run of `kind` learns from and is measured on, by content."""
        h = hashlib.sha256()
        for source in self.sources() if kind == "train" else ():
            h.update(f"{source.id} {source.weight}".encode())
            _add(h, source.task)
        for key, task in self.tasks.items():
            trained_as = f"{self.name}/{key}" if kind == "train" else None
            h.update(f"{key} {trained_as}".encode())
            _add(h, task, self.solutions[key])
        return h.hexdigest()


@dataclass(frozen=True, eq=False)
class Run:
    """One training and measurement, with `amount` in the plan's unit, of each task where its kind is "ttt". `decides` is all that decides
    the result, and `key` stands for it."""

    plan: Plan
    variant: str
    seed: int
    preset: Preset
    amount: float
    checkpoint: Path | None
    chosen: ChosenTasks
    decides: Mapping[str, Any]

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(self.decides, sort_keys=True).encode()).hexdigest()[:12]


def plan_runs(plan: Plan) -> list[Run]:
    """List every run of `plan`, in its order. Raises UserError for what cannot be run, before any is."""
    list_devices(plan.device)
    chosen = choose(plan.choice, f"{plan.path}: [tasks]")
    digest = chosen.digest(plan.kind)
    runs: list[Run] = []
    for variant in plan.variants():
        where = f"{plan.path}: variant {variant.name!r}"
        checkpoint = _checkpoint(variant, where)
        preset = _preset(plan, variant, checkpoint, chosen, where)
        amount = plan.amount * variant.amount_factor
        decides = {
            "kind": plan.kind,
            "amount": [plan.unit, amount],
            "clock": plan.clock if plan.unit == "seconds" else None,
            "device": plan.device,
            "settings": _settings(preset, plan.kind),
            "material": digest,
            "checkpoint": _weights_digest(checkpoint) if checkpoint else None,
        }
        runs += [Run(plan, variant.name, seed, preset, amount, checkpoint, chosen, {**decides, "seed": seed}) for seed in variant.seeds]
    return runs


def choose(choice: TaskChoice, where: str) -> ChosenTasks:
    """Take the tasks of `choice` that have solutions, by id. Raises DataError as loading does, ConfigError where too few are left."""
    name, tasks, solutions = load_source(choice.data)
    known = {task_id: tasks[task_id] for task_id in sorted(tasks) if solutions.get(task_id)}
    if missing := [task_id for task_id in choice.ids if task_id not in known]:
        raise ConfigError(f"{where}: {choice.data} has no task {missing[0]} with a solution")
    listed = [task_id for task_id in known if task_id in choice.ids] if choice.ids else known
    fitting = [task_id for task_id in listed if canvas_side(known[task_id]) <= choice.max_side]
    if len(fitting) < max(1, choice.number):
        raise ConfigError(f"{where}: {choice.data} has {len(fitting)} tasks of side {choice.max_side} or less with a solution")
    drawn = np.random.default_rng(choice.seed).permutation(len(fitting))[: choice.number or None]
    ids = [fitting[k] for k in sorted(drawn)]
    return ChosenTasks(name, {task_id: known[task_id] for task_id in ids}, {task_id: solutions[task_id] for task_id in ids})


def _checkpoint(variant: Variant, where: str) -> Path | None:
    if variant.checkpoint == "none":
        return None
    if variant.checkpoint != "packaged":
        return Path(variant.checkpoint)
    path = packaged_checkpoint(variant.preset)
    if path is None:
        raise ConfigError(f"{where}: the package carries no checkpoint for preset {variant.preset!r}")
    return path


def _preset(plan: Plan, variant: Variant, checkpoint: Path | None, chosen: ChosenTasks, where: str) -> Preset:
    """Layer the preset of a variant. Raises ConfigError where it leaves out a task or its checkpoint was trained on an answer."""
    preset = load_preset(variant.preset)
    preset = layer(preset, {name: getattr(variant, name) for name in TABLES}, source=where)
    check_model(preset.model, where)
    large = [task_id for task_id, task in chosen.tasks.items() if canvas_side(task) > preset.train.max_side]
    if large and plan.kind == "train":
        raise ConfigError(f"{where}: [train] max_side {preset.train.max_side} leaves out {len(large)} of the tasks, as {large[0]}")
    if checkpoint:
        # Reading weights needs torch, which a plan without a checkpoint does without.
        from hrm_submit.train.checkpoints import load_start

        shared = len(chosen.test_hashes() & set(load_start(checkpoint, preset.model).meta.hashes))
        if shared:
            raise ConfigError(f"{where}: {checkpoint}: was trained on {shared} of the test pairs that it would be measured on")
    return preset


def _settings(preset: Preset, kind: Kind) -> dict[str, dict[str, Any]]:
    """The settings that differ from the code's defaults, so that a setting which the code gains later leaves earlier runs valid."""
    ours, plain = preset.to_dict(), Preset().to_dict()
    found = {t: {k: v for k, v in ours[t].items() if v != plain[t][k]} for t in SETTINGS[kind]}
    return {**found, "device": {k: v for k, v in found["device"].items() if k in DEVICE_KEYS}}


def _weights_digest(path: Path) -> str:
    """Hash a checkpoint without its metadata, as a card that says more leaves the weights what they were."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        digest.update(json.dumps(header, sort_keys=True).encode())
        digest.update(file.read())
    return digest.hexdigest()


def _add(h: hashlib._Hash, task: Task, outputs: Iterable[Grid] = ()) -> None:
    h.update(f"{task.id} {len(task.train)} {len(task.test)}".encode())
    for grid in (*task.grids(), *outputs):
        h.update(f"{grid.shape}".encode() + grid.tobytes())
