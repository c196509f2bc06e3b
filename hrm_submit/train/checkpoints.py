"""Checkpoints of a run: the weights it starts `--from`, and the two it leaves.

- `undecayed`: the weights as the learning rate began to fall, with the row of every task: to continue from.
- `final`: the decayed weights, with the mean row alone: to solve with.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from hrm_submit.config.schema import ModelConfig
from hrm_submit.core.errors import CheckpointError, TrainError
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM, fresh_convolutions
from hrm_submit.model.weights import Checkpoint, CheckpointMeta, load_checkpoint, save_checkpoint, snapshot

log = logging.getLogger(__name__)

UNDECAYED, FINAL = "undecayed", "final"


def export(path: Path, model: HRM, embedding: TaskEmbedding, meta: CheckpointMeta) -> bool:
    """Write a checkpoint to `path`, with its task rows if `meta` names their tasks; returns whether it was written.

    A fault, such as a full disk, is logged and the earlier file stays.
    """
    try:
        save_checkpoint(path, snapshot(model, embedding, meta, keep_rows=bool(meta.row_ids)))
    except CheckpointError as error:
        log.warning("%s not exported, the earlier file stays: %s", path.stem, error)
        return False
    return True


def load_start(path: Path, model: ModelConfig) -> Checkpoint:
    """Load the checkpoint of `--from`, with its task rows if it has them.

    If the model has convolutions and the checkpoint has none, they are added as they start, which changes no output. Raises
    CheckpointError, and TrainError if the checkpoint's model is not the preset's.
    """
    checkpoint = load_checkpoint(path, rows=True)
    if model.conv_size and not checkpoint.config.conv_size:
        config = replace(checkpoint.config, conv_size=model.conv_size)
        checkpoint = replace(checkpoint, config=config, state={**fresh_convolutions(config), **checkpoint.state})
    wanted = asdict(model)
    for key, value in asdict(checkpoint.config).items():
        if wanted[key] != value:
            raise TrainError(f"{path}: was trained with [model] {key} = {value!r}, but the preset has {wanted[key]!r}")
    return checkpoint


@torch.no_grad()
def place_rows(embedding: TaskEmbedding, checkpoint: Checkpoint, row_ids: Sequence[str]) -> int:
    """Copy the row of each task of `row_ids` that `checkpoint` knows; the others keep theirs. Returns how many it knew."""
    rows, known = checkpoint.tables.rows, {task_id: n for n, task_id in enumerate(checkpoint.meta.row_ids)}
    if rows is None or embedding.scheme != "shared":
        return 0
    pairs = [(n, known[task_id]) for n, task_id in enumerate(row_ids) if task_id in known]
    if pairs:
        ours, theirs = (torch.tensor(side) for side in zip(*pairs, strict=True))
        embedding.reset_rows(ours.to(embedding.rows.device), rows[theirs])
    return len(pairs)


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
