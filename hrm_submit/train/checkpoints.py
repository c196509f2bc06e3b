"""What a run leaves on disk and starts from: two checkpoints, and the state from which it resumes bit-identically.

- `undecayed`: the weights as the learning rate began to fall, with the row of every task: to continue from.
- `final`: the decayed weights, with the mean row alone: to solve with.
- `state.pt`: read with torch's restricted unpickler: tensors, numbers and text only. The first rank writes it for all: the carried
  sequences, which differ between ranks, are gathered into the global batch's and shared out again, by any number of ranks.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.config.preset_files import without_retired
from hrm_submit.config.schema import ModelConfig, Preset
from hrm_submit.core.errors import CheckpointError, TrainError
from hrm_submit.model.act import ActCarry
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import Checkpoint, CheckpointMeta, load_checkpoint, save_checkpoint, snapshot
from hrm_submit.train.loop import Trainer
from hrm_submit.train.mix_training import MixTraining

log = logging.getLogger(__name__)

UNDECAYED, FINAL, STATE_FILE = "undecayed", "final", "state.pt"


def export(path: Path, model: HRM, embedding: TaskEmbedding, meta: CheckpointMeta) -> None:
    """Write a checkpoint to `path`. A fault, such as a full disk, is logged and the earlier file stays."""
    try:
        save_checkpoint(path, snapshot(model, embedding, meta))
    except CheckpointError as error:
        log.warning("%s not exported, the earlier file stays: %s", path.stem, error)


def load_start(path: Path, model: ModelConfig) -> Checkpoint:
    """Load the checkpoint of `--from`, with its task rows if it has them. A model of patches may start from one of cells (`in_patches`).

    Raises CheckpointError, and TrainError if the checkpoint's model is not the preset's.
    """
    checkpoint = load_checkpoint(path, rows=True)
    if checkpoint.config.patch == 1 < model.patch:
        checkpoint = in_patches(checkpoint, model.patch)
    wanted = asdict(model)
    for key, value in asdict(checkpoint.config).items():
        if wanted[key] != value:
            raise TrainError(f"{path}: was trained with [model] {key} = {value!r}, but the preset has {wanted[key]!r}")
    return checkpoint


def in_patches(cells: Checkpoint, patch: int) -> Checkpoint:
    """Turn a model of cells into one whose tokens are squares of `patch` x `patch` cells. Its blocks stay as they are.

    Each place of a patch gets its own copy of the tables that a cell had, mixed with noise of the same spread that tells the places apart.
    """
    generator = torch.Generator().manual_seed(0)
    state = dict(cells.state)
    for name in ("tokens", "lm_head", "codes"):
        if name in state:
            table = state[name]
            places = [0.8 * table + 0.6 * table.std() * torch.randn(table.shape, generator=generator) for _ in range(patch**2)]
            state[name] = torch.cat(places)
    return replace(cells, config=replace(cells.config, patch=patch), state=state)


def origin(start: CheckpointMeta, path: Path) -> dict[str, Any]:
    """Describe the weights a run starts from, for the metadata of its checkpoints: a leak must not be washed out by continuing."""
    described: dict[str, Any] = {"file": path.name, "steps": start.steps, "seconds": start.seconds, "data": list(start.data)}
    if "from" in start.card:
        described["from"] = start.card["from"]
    return {"data": list(start.data), "hashes": list(start.hashes), "from": described}


def with_origin(meta: CheckpointMeta, older: Mapping[str, Any]) -> CheckpointMeta:
    """Add to `meta` the data and hashes of `older` weights (see `origin`; empty for none) and, in the card, where they came from."""
    return replace(
        meta,
        hashes=tuple(sorted({*meta.hashes, *older.get("hashes", ())})),
        data=tuple(dict.fromkeys([*meta.data, *older.get("data", ())])),
        card={**meta.card, **({"from": older["from"]} if "from" in older else {})},
    )


def training_state(training: MixTraining) -> dict[str, Any]:
    """Collect what `restore` needs, between two segments; every rank must call it, as they exchange their parts."""
    trainer = training.trainer
    return {
        "model": trainer.model.state_dict(),
        "embedding": trainer.embedding.state_dict(),
        "optimizers": trainer.optimizers.state_dict(),
        "generator": trainer.generator.get_state(),
        "segment": trainer.segment,
        "batch_size": training.batch_size,
        "carries": {
            cells: {name: trainer.ranks.gather(tensor) for name, tensor in carry.tensors().items()}
            for cells, carry in sorted(trainer.carries.items())
        },
    }


def restore(training: MixTraining, state: Mapping[str, Any]) -> None:
    """Set `training`, of the same configuration as the saved run, to where that run was."""
    trainer = training.trainer
    trainer.model.load_state_dict(state["model"])
    trainer.embedding.load_state_dict(state["embedding"])
    trainer.optimizers.load_state_dict(state["optimizers"])
    trainer.generator.set_state(state["generator"])
    trainer.segment, training.batch_size = state["segment"], state["batch_size"]
    # Sequences that the ranks cannot share out evenly begin again.
    shared = {cells: saved for cells, saved in state["carries"].items() if len(saved["steps"]) % training.ranks.world == 0}
    trainer.carries = {cells: _own_carry(saved, trainer) for cells, saved in shared.items()}


def _own_carry(saved: Mapping[str, Tensor], trainer: Trainer) -> ActCarry:
    """Cut out this rank's part."""
    device, part = trainer.model.tokens.device, trainer.ranks.slice(len(saved["steps"]))
    own = {name: tensor[part].to(device) for name, tensor in saved.items()}
    return ActCarry.of({**own, **{name: own[name].to(trainer.model.dtype) for name in ("z_H", "z_L")}})


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace `folder/state.pt` in one piece; the old one stays until the new one is whole. Raises OSError."""
    temporary = folder / f".{STATE_FILE}.tmp"
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / STATE_FILE)
    except RuntimeError as error:  # torch's zip writer reports a full disk so
        raise OSError(str(error).split("\n", 1)[0]) from None
    finally:
        temporary.unlink(missing_ok=True)


def read_state(folder: Path) -> dict[str, Any]:
    """Read the saved state, onto the CPU. Raises TrainError if there is none, or it cannot be read."""
    path = folder / STATE_FILE
    if not path.is_file():
        raise TrainError(f"{path}: no saved run to resume")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainError(f"{path}: cannot be read: {str(error).split(chr(10), 1)[0]}") from None
    if not isinstance(state, dict):
        raise TrainError(f"{path}: is not the state of a run")
    return state


def identity(tasks: Iterable[TrainingTask], preset: Preset, seed: int) -> dict[str, Any]:
    """Describe what must be the same for a run to resume: `[model]` and `[train]`, the tasks with their weights, the seed."""
    content = hashlib.sha256()
    for task in tasks:
        content.update(repr((task.id, task.weight, task.hashes)).encode())
    tables = preset.to_dict()
    return {"model": tables["model"], "train": tables["train"], "data": content.hexdigest(), "seed": seed}


def check_identity(source: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise TrainError, naming `source`, unless the saved run was one like ours."""
    for table in ("model", "train"):
        for key, value in without_retired(table, theirs[table]).items():
            if ours[table].get(key) != value:
                raise TrainError(f"{source}: was trained with [{table}] {key} = {value!r}, not {ours[table].get(key)!r}")
    if theirs["seed"] != ours["seed"]:
        raise TrainError(f"{source}: was trained with seed {theirs['seed']}, not {ours['seed']}")
    if theirs["data"] != ours["data"]:
        raise TrainError(f"{source}: was trained on other tasks or weights; to continue with new ones, start --from its undecayed export")
