"""The state of a training run on disk, from which it resumes bit-identically.

- Read with torch's restricted unpickler: tensors, numbers and text only.
- Written for all ranks by the first. The carried sequences, which differ between ranks, are gathered into the global batch's and shared
  out again, so a run may resume with another number of ranks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.config.preset_files import without_retired
from hrm_submit.config.schema import Preset
from hrm_submit.core.errors import TrainError
from hrm_submit.model.act import ActCarry
from hrm_submit.train.loop import Trainer
from hrm_submit.train.mix_training import MixTraining

STATE_FILE = "state.pt"


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
