"""Batches of augmented demonstration pairs, drawn without end and built on the fly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hrm_submit.arc.augment import Augmentation, augmentation_arrays
from hrm_submit.arc.canvas import Ints, PackedPairs, encode, position_ids, sample_offsets
from hrm_submit.arc.task import Pair
from hrm_submit.config.schema import TrainConfig
from hrm_submit.model.act import Batch
from hrm_submit.model.losses import labels_from_tokens
from hrm_submit.train.loop import CanvasBatch

RESIDENT_BYTES = 2**28
"""Most memory that the augmented examples of a task take on its device; beyond it, and where grids are placed at random, each batch is
encoded when it is drawn."""
DRAWN_AHEAD = 64
"""Batches whose draws go to the device in one copy."""


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

    `rows[a]` is the task embedding row of `augmentations[a]`; `side` is the canvas. Every pair comes equally often. Every pair under every
    augmentation is encoded once and stays on the device, so that a batch is a look-up there: nothing waits for a copy.
    """
    packed = PackedPairs.from_pairs(pairs)
    dihedral, colours, _ = augmentation_arrays(augmentations)
    row_of = np.asarray(rows, dtype=np.int64)
    n, count = len(packed), len(augmentations)
    positions = torch.from_numpy(position_ids(side)).to(device)
    row_table, turn_table = (torch.from_numpy(table).to(device) for table in (row_of, dihedral.astype(np.int64)))
    sheets = None
    if not config.translate and 2 * n * count * side**2 <= RESIDENT_BYTES:
        every, under = np.repeat(np.arange(n), count), np.tile(np.arange(count), n)
        sheets = _encoded(packed, every, dihedral[under], colours[under], _unmoved(n * count), side, device)
    for index, chosen in _draws(n, count, config.batch_size, rng, DRAWN_AHEAD if sheets else 1):
        places, views = torch.from_numpy(index * count + chosen).to(device), torch.from_numpy(chosen).to(device)
        for k in range(len(index)):
            if sheets:
                inputs, labels = (sheet[places[k]] for sheet in sheets)
            else:
                turns = dihedral[chosen[k]]
                offsets = sample_offsets(packed, index[k], turns, side, rng) if config.translate else _unmoved(len(turns))
                inputs, labels = _encoded(packed, index[k], turns, colours[chosen[k]], offsets, side, device)
            yield CanvasBatch(Batch(inputs, labels_from_tokens(labels), row_table[views[k]], turn_table[views[k]]), positions)


def _unmoved(n: int) -> Ints:
    return np.zeros((n, 2), dtype=np.int64)


def _draws(pairs: int, augmentations: int, size: int, rng: np.random.Generator, ahead: int) -> Iterator[tuple[Ints, Ints]]:
    """Pairs and their augmentations, (ahead, size) each, without end; the numbers drawn do not depend on `ahead`."""
    queue = np.zeros(0, dtype=np.int64)
    while True:
        index, chosen = np.empty((ahead, size), dtype=np.int64), np.empty((ahead, size), dtype=np.int64)
        for k in range(ahead):
            while len(queue) < size:
                queue = np.concatenate([queue, rng.permutation(pairs)])
            index[k], queue = queue[:size], queue[size:]
            chosen[k] = rng.integers(0, augmentations, size=size)
        yield index, chosen


def _encoded(
    packed: PackedPairs,
    index: Ints,
    turns: npt.NDArray[np.integer],
    colours: npt.NDArray[np.integer],
    offsets: Ints,
    side: int,
    device: str,
) -> tuple[Tensor, Tensor]:
    """Tokens of inputs and outputs on `device`, as `encode` makes them."""
    inputs, labels = encode(packed, index, turns, colours, offsets, side)
    return torch.from_numpy(inputs).to(device), torch.from_numpy(labels).to(device)
