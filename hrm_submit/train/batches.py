"""Endless batches of augmented demonstration pairs of one task, for test-time training."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hrm_submit.arc.augment import Augmentation, augmentation_arrays
from hrm_submit.arc.canvas import Ints, PackedPairs, encode, position_ids, sample_offsets
from hrm_submit.arc.codes import NO_CODE, draw_left_out, with_codes
from hrm_submit.arc.task import Pair
from hrm_submit.config.schema import CODE_SIZES, CodeKind, TrainConfig
from hrm_submit.core.device import to_device
from hrm_submit.model.act import Batch
from hrm_submit.model.losses import labels_from_tokens
from hrm_submit.train.loop import CanvasBatch

RESIDENT_BYTES = 2**28
"""Largest memory for the augmented examples of one canvas on its device; beyond it, or with random translation, each batch is encoded when
it is drawn."""


def task_batches(
    pairs: Sequence[Pair],
    augmentations: Sequence[Augmentation],
    rows: Sequence[int],
    sides: Sequence[int],
    config: TrainConfig,
    rng: np.random.Generator,
    device: str = "cpu",
    codes: Sequence[CodeKind] = (),
) -> Iterator[CanvasBatch]:
    """Yield batches of one task: pairs in shuffled rounds, each under a random one of `augmentations`, pair k on a canvas of `sides[k]`.

    A batch holds pairs of one canvas, and every pair comes as often as any other in the mean. `rows[a]` is the task embedding row of
    `augmentations[a]`; inputs have the cells' `codes`, but for kinds left out at random.
    """
    by_side: dict[int, list[Pair]] = {}
    for pair, side in zip(pairs, sides, strict=True):
        by_side.setdefault(side, []).append(pair)
    on_canvas = partial(_on_canvas, augmentations=augmentations, rows=rows, config=config, device=device, codes=codes)
    if len(by_side) == 1:
        yield from on_canvas(sides[0], pairs, rng)
    canvases = sorted(by_side.items())
    streams = [on_canvas(side, group, draw) for (side, group), draw in zip(canvases, rng.spawn(len(canvases)), strict=True)]
    chance = [len(group) / len(pairs) for _, group in canvases]
    while True:
        yield next(streams[int(rng.choice(len(streams), p=chance))])


def _on_canvas(
    side: int,
    pairs: Sequence[Pair],
    rng: np.random.Generator,
    *,
    augmentations: Sequence[Augmentation],
    rows: Sequence[int],
    config: TrainConfig,
    device: str,
    codes: Sequence[CodeKind],
) -> Iterator[CanvasBatch]:
    """Yield the batches of `pairs`, all on a canvas of `side`.

    If memory allows, every pair under every augmentation is encoded once and stays on the device, so a batch is a look-up there.
    """
    packed = PackedPairs.from_pairs(pairs)
    dihedral, colours = augmentation_arrays(augmentations)
    n, n_views, n_features = len(packed), len(augmentations), sum(len(CODE_SIZES[kind]) for kind in codes)
    positions = to_device(torch.from_numpy(position_ids(side)), device)
    row_of, transform_of = (to_device(torch.from_numpy(np.asarray(table, dtype=np.int64)), device) for table in (rows, dihedral))

    def encoded(index: Ints, views: Ints, offsets: Ints | None = None) -> list[Tensor]:
        tokens, labels = encode(packed, index, dihedral[views], colours[views], side, offsets)
        return [to_device(torch.from_numpy(array), device) for array in (with_codes(tokens, codes), labels)]

    resident = None
    if not config.translate and (2 + n_features) * n * n_views * side**2 <= RESIDENT_BYTES:
        resident = encoded(np.repeat(np.arange(n), n_views), np.tile(np.arange(n_views), n))
    hides = rng.spawn(1)[0] if codes and config.code_dropout else None
    for index, chosen in _draws(n, n_views, config.batch_size, rng):
        at, views = to_device(torch.from_numpy(np.stack([index * n_views + chosen, chosen])), device)
        if resident:
            inputs, labels = (examples[at] for examples in resident)
        else:
            moved = sample_offsets(packed, index, dihedral[chosen], side, rng) if config.translate else None
            inputs, labels = encoded(index, chosen, moved)
        if hides:
            left_out = torch.from_numpy(draw_left_out(len(index), codes, config.code_dropout, hides))
            inputs = inputs.masked_fill(to_device(left_out, device)[:, None], NO_CODE)
        yield CanvasBatch(Batch(inputs, labels_from_tokens(labels), row_of[views], transform_of[views]), positions)


def _draws(pairs: int, augmentations: int, size: int, rng: np.random.Generator) -> Iterator[tuple[Ints, Ints]]:
    """Draw `size` pairs and their augmentations, without end."""
    queue = np.zeros(0, dtype=np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(pairs)])
        yield queue[:size], rng.integers(0, augmentations, size=size)
        queue = queue[size:]
