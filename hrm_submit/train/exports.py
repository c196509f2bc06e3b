"""Checkpoints into a run and out of it: where `--from` starts, and the two exports.

- `undecayed`: the weights as they were when the learning rate began to fall, with the row of every task: to continue from.
- `final`: the decayed weights, no row but the mean: to solve with.
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


class Exports:
    """Writes the checkpoints of a run to `folder`.

    `row_ids` are the tasks of the embedding rows; they and their rows go with `undecayed`. The published scheme, with a row
    for each augmentation of each task, would make that gigabytes: there its mean stands for all, as in `final`.
    """

    def __init__(self, folder: Path, meta: CheckpointMeta, row_ids: Sequence[str]) -> None:
        self._folder, self._meta, self._row_ids = folder, meta, tuple(row_ids)

    def write(
        self, name: str, model: HRM, embedding: TaskEmbedding, steps: int, seconds: float, card: dict[str, Any] | None = None
    ) -> bool:
        """Write one; a fault, a full disk say, is logged and what was there before stays. Returns whether it was written."""
        rows = name == UNDECAYED and embedding.scheme == "shared" and len(embedding.rows) == len(self._row_ids)
        meta = replace(
            self._meta,
            steps=steps,
            seconds=round(seconds, 1),
            card={**self._meta.card, **(card or {})},
            row_ids=self._row_ids if rows else (),
        )
        try:
            save_checkpoint(self._folder / f"{name}.safetensors", snapshot(model, embedding, meta, keep_rows=rows))
        except CheckpointError as error:
            log.warning("%s not exported, the earlier file stays: %s", name, error)
            return False
        return True


def load_start(path: Path, model: ModelConfig) -> Checkpoint:
    """The checkpoint that `--from` names, with its task rows where it has them.

    Where the model has convolutions and the checkpoint has none, it gets them as they start, which changes no output. Raises
    CheckpointError, and TrainError where it is of another model than the preset's.
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
    """Give each task of `row_ids` that `checkpoint` knows its row from there; the others keep theirs. Returns how many it knew."""
    rows, known = checkpoint.tables.rows, {task_id: n for n, task_id in enumerate(checkpoint.meta.row_ids)}
    if rows is None or embedding.scheme != "shared":
        return 0
    pairs = [(n, known[task_id]) for n, task_id in enumerate(row_ids) if task_id in known]
    if pairs:
        ours, theirs = (torch.tensor(side) for side in zip(*pairs, strict=True))
        embedding.reset_rows(ours.to(embedding.rows.device), rows[theirs])
    return len(pairs)


def inherited(meta: CheckpointMeta, start: Checkpoint, path: Path) -> CheckpointMeta:
    """`meta` of a run that starts from `start`: what those weights were trained on, these were too."""
    older: dict[str, Any] = {"file": path.name, "steps": start.meta.steps, "seconds": start.meta.seconds, "data": list(start.meta.data)}
    if "from" in start.meta.card:
        older["from"] = start.meta.card["from"]
    return with_origin(meta, {"data": start.meta.data, "hashes": start.meta.hashes, "from": older})


def origin(meta: CheckpointMeta) -> dict[str, Any]:
    """What a run must remember of `meta` over its turns."""
    return {"data": list(meta.data), "hashes": list(meta.hashes), "from": meta.card.get("from")}


def with_origin(meta: CheckpointMeta, older: Mapping[str, Any]) -> CheckpointMeta:
    """`meta` with the data and the hashes of `older` weights too, and in the card where those came from."""
    return replace(
        meta,
        hashes=tuple(sorted({*meta.hashes, *older["hashes"]})),
        data=tuple(dict.fromkeys([*meta.data, *older["data"]])),
        card={**meta.card, **({"from": older["from"]} if older["from"] else {})},
    )
