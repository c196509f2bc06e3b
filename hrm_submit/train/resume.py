"""The state of a training run on disk, from which it resumes bit-identically.

- Read with torch's restricted unpickler: tensors, numbers and text only.
- Written for all ranks by the first: what differs between them, the carried sequences, is gathered into the global batch's
  and shared out again, so that a run may even resume with another number of ranks.
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
from hrm_submit.train.ranks import Ranks

STATE_FILE = "state.pt"


def trainer_state(trainer: Trainer) -> dict[str, Any]:
    """Everything that `restore` needs of a trainer between two segments; every rank must ask, as they exchange their parts."""
    return {
        "model": trainer.model.state_dict(),
        "embedding": trainer.embedding.state_dict(),
        "optimizers": trainer.optimizers.state_dict(),
        "generator": trainer.generator.get_state(),
        "segment": trainer.segment,
        "carries": {length: _carry_state(carry, trainer.ranks) for length, carry in sorted(trainer.carries.items())},
    }


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
    """The saved state, on the CPU. Raises TrainError where there is none, or it cannot be read."""
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


def restore(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Set `trainer`, one of a configuration as the saved run's, to where that run was."""
    trainer.model.load_state_dict(state["model"])
    trainer.embedding.load_state_dict(state["embedding"])
    trainer.optimizers.load_state_dict(state["optimizers"])
    trainer.generator.set_state(state["generator"])
    trainer.segment = state["segment"]
    carries = {length: _carry(saved, trainer) for length, saved in state["carries"].items()}
    trainer.carries = {length: carry for length, carry in carries.items() if carry is not None}


def identity(tasks: Iterable[TrainingTask], preset: Preset, seed: int) -> dict[str, Any]:
    """What must be the same for a run to resume: `[model]` and `[train]`, the tasks with their weights, the seed."""
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


def _carry_state(carry: ActCarry, ranks: Ranks) -> dict[str, Tensor]:
    return {name: ranks.gather(tensor) for name, tensor in carry.tensors().items()}


def _carry(saved: Mapping[str, Tensor], trainer: Trainer) -> ActCarry | None:
    """This rank's part; None where the ranks of now cannot share it out evenly."""
    size = len(saved["steps"])
    if size % trainer.ranks.world:
        return None
    device, part = trainer.model.tokens.device, trainer.ranks.slice(size)
    own = {name: tensor[part].to(device) for name, tensor in saved.items()}
    states = {name: own[name].to(trainer.model.dtype) for name in ("z_H", "z_L")}
    return ActCarry.of({**own, **states})
