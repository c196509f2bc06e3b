"""What a run leaves on disk and starts from: two checkpoints, and the state from which it resumes bit-identically.

- `undecayed`: the weights as the learning rate began to fall, with the row of every task: to continue from.
- `final`: the decayed weights, with the mean row alone: to solve with.
- `state.pt`: read with torch's restricted unpickler. The first rank writes it for all: the carried sequences, which differ between ranks,
  are gathered and shared out again, by any number of ranks.
"""

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.config.schema import ModelConfig, Preset
from hrm_submit.core.errors import TrainError
from hrm_submit.model.weights import Checkpoint, CheckpointMeta, load_checkpoint

log = logging.getLogger(__name__)

UNDECAYED, FINAL, STATE_FILE = "undecayed", "final", "state.pt"


def load_start(path: Path, model: ModelConfig) -> Checkpoint:
    """Load the checkpoint of `--from`, with its task rows if it has them. A model of patches may start from one of cells (`in_patches`).
    Raises CheckpointError, and TrainError if its model is not the preset's."""
    checkpoint = load_checkpoint(path, rows=True)
    if checkpoint.config.patch == 1 < model.patch:
        checkpoint = in_patches(checkpoint, model.patch)
    _check_settings(path, "model", asdict(checkpoint.config), asdict(model))
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
    earlier = {"from": start.card["from"]} if "from" in start.card else {}
    described = {"file": path.name, "steps": start.steps, "seconds": start.seconds, "data": list(start.data), **earlier}
    return {"data": list(start.data), "hashes": list(start.hashes), "from": described}


def with_origin(meta: CheckpointMeta, older: Mapping[str, Any]) -> CheckpointMeta:
    """Add to `meta` the data and hashes of `older` weights (see `origin`; empty for none) and, in the card, where they came from."""
    return replace(
        meta,
        hashes=tuple(sorted({*meta.hashes, *older.get("hashes", ())})),
        data=tuple(dict.fromkeys([*meta.data, *older.get("data", ())])),
        card={**meta.card, **({"from": older["from"]} if "from" in older else {})},
    )


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Replace `folder/state.pt` in one piece; the old one stays until the new one is whole. Raises OSError."""
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


def read_state(folder: Path) -> dict[str, Any]:
    """Read the saved state, onto the CPU. Raises TrainError if there is none, or it cannot be read."""
    path = folder / STATE_FILE
    if not path.is_file():
        raise TrainError(f"{path}: no saved run to resume")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainError(f"{path}: cannot be read: {str(error).split(chr(10), 1)[0]}") from None
    if not isinstance(state, dict) or not state:  # nothing that is there is begun anew
        raise TrainError(f"{path}: is not the state of a run")
    return state


def identity(tasks: Iterable[TrainingTask], preset: Preset, seed: int) -> dict[str, Any]:
    """Describe what must be the same for a run to resume: `[model]` and `[train]`, the tasks with their weights, the seed."""
    content, tables = "".join(repr((task.id, task.weight, task.hashes)) for task in tasks), preset.to_dict()
    data = hashlib.sha256(content.encode()).hexdigest()
    return {"model": tables["model"], "train": tables["train"], "data": data, "seed": seed}


def check_identity(source: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise TrainError, naming `source`, unless the saved run was one like ours."""
    for table in ("model", "train"):
        _check_settings(source, table, theirs[table], ours[table])
    if theirs["seed"] != ours["seed"]:
        raise TrainError(f"{source}: was trained with seed {theirs['seed']}, not {ours['seed']}")
    if theirs["data"] != ours["data"]:
        raise TrainError(f"{source}: was trained on other tasks or weights; to continue with new ones, start --from its undecayed export")


def _check_settings(source: Path, table: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    for key, value in theirs.items():
        if ours.get(key) != value:
            raise TrainError(f"{source}: was trained with [{table}] {key} = {value!r}, but the preset has {ours.get(key)!r}")
