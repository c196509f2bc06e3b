"""Batches of augmented demonstration pairs, drawn without end and built on the fly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from hrm_submit.arc.augment import Augmentation, augmentation_arrays
from hrm_submit.arc.canvas import PackedPairs, encode, position_ids, sample_offsets
from hrm_submit.arc.task import Pair
from hrm_submit.config.schema import TrainConfig
from hrm_submit.model.act import Batch
from hrm_submit.model.losses import labels_from_tokens
from hrm_submit.train.loop import CanvasBatch


def task_batches(
    pairs: Sequence[Pair],
    augmentations: Sequence[Augmentation],
    rows: Sequence[int],
    side: int,
    config: TrainConfig,
    rng: np.random.Generator,
    device: str = "cpu",
) -> Iterator[CanvasBatch]:
    """Batches of one task: pairs in shuffled rounds, each under a random one of `augmentations`.

    `rows[a]` is the task embedding row of `augmentations[a]`; `side` is the canvas. Every pair comes equally often.
    """
    packed = PackedPairs.from_pairs(pairs)
    dihedral, colours, _ = augmentation_arrays(augmentations)
    row_of = np.asarray(rows, dtype=np.int64)
    positions = torch.from_numpy(position_ids(side)).to(device)
    queue = np.zeros(0, dtype=np.int64)
    while True:
        while len(queue) < config.batch_size:
            queue = np.concatenate([queue, rng.permutation(len(packed))])
        index, queue = queue[: config.batch_size], queue[config.batch_size :]
        chosen = rng.integers(0, len(augmentations), size=config.batch_size)
        turns = dihedral[chosen]
        unmoved = np.zeros((config.batch_size, 2), dtype=np.int64)
        offsets = sample_offsets(packed, index, turns, side, rng) if config.translate else unmoved
        inputs, labels = encode(packed, index, turns, colours[chosen], offsets, side)
        yield CanvasBatch(
            Batch(
                inputs=torch.from_numpy(inputs).to(device),
                labels=labels_from_tokens(torch.from_numpy(labels).to(device)),
                ids=torch.from_numpy(row_of[chosen]).to(device),
                dihedral=torch.from_numpy(turns.astype(np.int64)).to(device),
            ),
            positions,
        )
