"""The state of a training run on disk, from which it goes on exactly as if it had never stopped.

Read with torch's restricted unpickler: tensors, numbers and text only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrm_submit.core.errors import TrainError
from hrm_submit.model.act import ActCarry, Batch
from hrm_submit.model.hrm import InnerCarry
from hrm_submit.train.loop import Trainer

STATE_FILE = "state.pt"


def save_state(folder: Path, trainer: Trainer, extra: Mapping[str, Any]) -> None:
    """Replace `folder/state.pt` in one piece; the old one stays until the new one is whole. Raises OSError."""
    state = {
        "model": trainer.model.state_dict(),
        "embedding": trainer.embedding.state_dict(),
        "optimizers": trainer.optimizers.state_dict(),
        "generator": trainer.generator.get_state(),
        "segment": trainer.segment,
        "carries": {length: _carry_state(carry) for length, carry in trainer.carries.items()},
        **extra,
    }
    temporary = folder / f".{STATE_FILE}.tmp"
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / STATE_FILE)
    except RuntimeError as error:  # torch's zip writer reports a full disk so
        raise OSError(str(error).split("\n", 1)[0]) from None
    finally:
        temporary.unlink(missing_ok=True)


def read_state(folder: Path, device: str) -> dict[str, Any]:
    """The saved state. Raises TrainError where there is none, or it cannot be read."""
    path = folder / STATE_FILE
    if not path.is_file():
        raise TrainError(f"{path}: no saved run to resume")
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise TrainError(f"{path}: cannot be read: {str(error).split(chr(10), 1)[0]}") from None
    return state


def restore(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Set `trainer` to where the saved run was."""
    trainer.model.load_state_dict(state["model"])
    trainer.embedding.load_state_dict(state["embedding"])
    trainer.optimizers.load_state_dict(state["optimizers"])
    trainer.generator.set_state(state["generator"].cpu())
    trainer.segment = state["segment"]
    trainer.carries = {length: _carry(saved) for length, saved in state["carries"].items()}


def _carry_state(carry: ActCarry) -> dict[str, Tensor]:
    data = {f.name: getattr(carry.data, f.name) for f in fields(Batch)}
    return {"z_H": carry.inner.z_H, "z_L": carry.inner.z_L, "steps": carry.steps, "halted": carry.halted, **data}


def _carry(saved: Mapping[str, Tensor]) -> ActCarry:
    data = Batch(**{f.name: saved[f.name] for f in fields(Batch)})
    return ActCarry(InnerCarry(saved["z_H"], saved["z_L"]), saved["steps"], saved["halted"], data)
