"""The runs of a plan: every variant with every seed, each with all that decides it and a key made of that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrm_submit.arc.canvas import check_model
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.config.preset_files import layer, load_preset
from hrm_submit.config.schema import Preset
from hrm_submit.core.device import list_devices
from hrm_submit.core.errors import ConfigError
from lab.ablation.plan import ClockName, Kind, Plan, Unit, Variant
from lab.ablation.tasks import Chosen, Material, check_untrained, choose, training_material

SETTINGS: Mapping[str, tuple[str, ...]] = {"train": ("model", "train", "vote", "device"), "ttt": ("model", "ttt", "vote", "device")}
"""Tables of a preset that decide a run of each kind."""
DEVICE_KEYS = ("dtype", "attention", "compile")
"""Of [device] only these decide what comes out: a run has one process of one thread."""


@dataclass(frozen=True, eq=False)
class Run:
    """One training and measurement. `amount` is in `unit`, of each task where `kind` is "ttt". `key` stands for everything else here."""

    variant: str
    seed: int
    kind: Kind
    preset: Preset
    unit: Unit
    amount: float
    clock: ClockName
    device: str
    checkpoint: Path | None
    material: Material
    key: str

    def describe(self) -> dict[str, Any]:
        """For a person, and for who does it again."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("preset", "material", "checkpoint")}
        tables = {t: values for t, values in self.preset.to_dict().items() if t in SETTINGS[self.kind]}
        return {**plain, "checkpoint": str(self.checkpoint or "none"), "tasks": list(self.material.measured.tasks), "preset": tables}


def plan_runs(plan: Plan) -> list[Run]:
    """Every run of `plan`, in its order. Raises UserError for what cannot be run, before any is."""
    list_devices(plan.device)
    tasks = choose(plan.tasks, f"{plan.path}: [tasks]") if plan.tasks else None
    evaluate = choose(plan.evaluate, f"{plan.path}: [evaluate]") if plan.evaluate else None
    materials: dict[str, tuple[Material, str]] = {}
    runs: list[Run] = []
    for variant in plan.variants:
        where = f"{plan.path}: variant {variant.name!r}"
        if variant.data not in materials:
            material = _material(plan, variant, tasks, evaluate, where)
            materials[variant.data] = material, material.digest()
        material, digest = materials[variant.data]
        checkpoint = _checkpoint(variant, where)
        preset = _preset(plan, variant, checkpoint, material.measured, where)
        _check(plan, preset, material, where)
        amount = plan.amount * variant.amount_factor
        about = {
            "kind": plan.kind,
            "amount": [plan.unit, amount],
            "clock": plan.clock if plan.unit == "seconds" else None,
            "device": plan.device,
            "settings": _settings(preset, plan.kind),
            "material": digest,
            "checkpoint": _weights_digest(checkpoint) if checkpoint else None,
        }
        for seed in variant.seeds:
            key = hashlib.sha256(json.dumps({**about, "seed": seed}, sort_keys=True).encode()).hexdigest()[:12]
            runs.append(Run(variant.name, seed, plan.kind, preset, plan.unit, amount, plan.clock, plan.device, checkpoint, material, key))
    return runs


def _material(plan: Plan, variant: Variant, tasks: Chosen | None, evaluate: Chosen | None, where: str) -> Material:
    if plan.kind == "train":
        return training_material(tasks, variant.data, evaluate, where)
    assert tasks is not None
    return Material((), tasks)


def _checkpoint(variant: Variant, where: str) -> Path | None:
    if variant.checkpoint == "none":
        return None
    if variant.checkpoint != "box":
        return Path(variant.checkpoint)
    from hrm_submit.model.packaged import packaged_checkpoint

    path = packaged_checkpoint(variant.preset)
    if path is None:
        raise ConfigError(f"{where}: the package carries no checkpoint for preset {variant.preset!r}")
    return path


def _preset(plan: Plan, variant: Variant, checkpoint: Path | None, measured: Chosen, where: str) -> Preset:
    """The preset of a variant, checked against its checkpoint, whose training pairs must not hold an answer."""
    preset = load_preset(variant.preset)
    for tables in variant.changes:
        preset = layer(preset, tables, source=where)
    check_model(preset.model, where)
    if checkpoint:
        from hrm_submit.train.exports import load_start

        start = load_start(checkpoint, preset.model)
        check_untrained(start.meta.hashes, measured, f"{where}: {checkpoint}")
    return preset


def _check(plan: Plan, preset: Preset, material: Material, where: str) -> None:
    if plan.kind == "train":
        own = set(material.trained_as.values())
        large = [s.key for s in material.sources if s.id in own and canvas_side(s.task) > preset.train.max_side]
        if large:
            raise ConfigError(f"{where}: [train] max_side {preset.train.max_side} leaves out {len(large)} of the tasks, as {large[0]}")


def _settings(preset: Preset, kind: Kind) -> dict[str, dict[str, Any]]:
    """What differs from the defaults of the code, so that a setting which the code gains later leaves earlier runs valid."""
    ours, plain = preset.to_dict(), Preset().to_dict()
    found = {t: {k: v for k, v in ours[t].items() if v != plain[t][k]} for t in SETTINGS[kind]}
    return {**found, "device": {k: v for k, v in found["device"].items() if k in DEVICE_KEYS}}


def _weights_digest(path: Path) -> str:
    """Of what the files of a checkpoint hold but for their metadata, as a card that says more leaves the weights what they were."""
    digest = hashlib.sha256()
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        with file.open("rb") as f:
            header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
            header.pop("__metadata__", None)
            digest.update(json.dumps(header, sort_keys=True).encode())
            digest.update(f.read())
    return digest.hexdigest()
