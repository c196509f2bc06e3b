"""Batches of a task against plain numpy: which pairs come, how they are augmented, which rows they use."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from hrm_submit.arc.augment import IDENTITY, Augmentation
from hrm_submit.arc.codes import NO_CODE, with_codes
from hrm_submit.arc.task import Pair, make_grid
from hrm_submit.config.schema import CODE_SIZES, TrainConfig
from hrm_submit.train.batches import task_batches
from hrm_submit.train.loop import CanvasBatch
from tests.arc.strategies import plain_canvas

SIDE = 5
RNG = np.random.default_rng(5)
PAIRS = [Pair(make_grid(RNG.integers(0, 10, (2, 3))), make_grid(RNG.integers(0, 10, (3, 2)))) for _ in range(3)]
VIEWS = [IDENTITY] + [Augmentation(d, (0, *(int(c) for c in 1 + RNG.permutation(9)))) for d in range(1, 8)]
ROWS = [40, 41, 42, 43, 44, 45, 46, 47]


def batches(n: int, views: list[Augmentation] = VIEWS, rows: list[int] = ROWS, seed: int = 0, **options: object) -> list[CanvasBatch]:
    codes, sides = options.pop("codes", ()), options.pop("sides", [SIDE] * 3)
    config = TrainConfig(**{"batch_size": 4, "translate": False, **options})  # type: ignore[arg-type]
    return list(islice(task_batches(PAIRS, views, rows, sides, config, np.random.default_rng(seed), codes=codes), n))  # type: ignore[arg-type]


def examples(made: list[CanvasBatch]) -> list[tuple[np.ndarray, np.ndarray, int, int]]:
    return [
        (i.numpy(), label.numpy(), int(row), int(turn))
        for m in made
        for i, label, row, turn in zip(m.batch.inputs, m.batch.labels, m.batch.ids, m.batch.dihedral, strict=True)
    ]


def drawn(pair: Pair, view: Augmentation, offset: tuple[int, int] = (0, 0)) -> tuple[np.ndarray, np.ndarray]:
    """Input tokens and labels by plain numpy: PAD is no label."""
    tokens = [plain_canvas(view.apply(grid), offset, SIDE).ravel() for grid in (pair.input, pair.output)]
    return tokens[0], np.where(tokens[1] == 0, -100, tokens[1])


def test_inputs_and_labels_are_the_augmented_pairs() -> None:
    for inputs, labels, row, turn in examples(batches(25)):
        view = VIEWS[row - 40]  # the row tells which augmentation it is
        assert turn == view.dihedral
        assert any((inputs == i).all() and (labels == o).all() for i, o in (drawn(p, view) for p in PAIRS))


@pytest.mark.parametrize("size", [1, 4, 7])
def test_every_pair_comes_equally_often(size: int) -> None:
    seen: Counter[bytes] = Counter()
    for k, (inputs, *_) in enumerate(examples(batches(6, [IDENTITY], [0], batch_size=size)), 1):
        seen[inputs.tobytes()] += 1
        if k % 3 == 0:  # after each round of the three pairs
            assert set(seen.values()) == {k // 3} and len(seen) == 3


def test_a_batch_holds_pairs_of_one_canvas_and_every_pair_comes_equally_often() -> None:
    """The middle pair has a canvas of its own."""
    made = batches(300, [IDENTITY], [0], sides=[SIDE, 4, SIDE])
    small = [item for item in made if len(item.positions) == 16]
    assert {len(item.positions) for item in made} == {16, 25} and 70 < len(small) < 130, "a third of the batches"
    assert all((inputs.reshape(4, 4)[:2, :3] == 2 + PAIRS[1].input).all() for inputs, *_ in examples(small))
    seen = sorted(Counter(inputs.tobytes() for inputs, *_ in examples(made)).values())
    assert len(seen) == 3 and seen[1] - seen[0] <= 250


def test_every_augmentation_gets_its_turn() -> None:
    counts = Counter(row for *_, row, _ in examples(batches(400)))
    assert set(counts) == set(ROWS)
    assert min(counts.values()) > 130, "of 1600 draws 200 are expected of each"


def test_translated_pairs_stay_whole_and_move_with_their_labels() -> None:
    offsets = [(y, x) for y in range(4) for x in range(4)]
    places = set()
    for inputs, labels, row, _ in examples(batches(60, translate=True)):
        placed = {at: [drawn(p, VIEWS[row - 40], at) for p in PAIRS] for at in offsets}
        fits = [at for at, drawings in placed.items() if any((inputs == i).all() and (labels == o).all() for i, o in drawings)]
        assert fits, "an example that is no placement of any pair"
        places.update(fits)
    assert places == {(y, x) for y in range(3) for x in range(3)}, "a pair of 3 by 3 has three places a side on a canvas of 5"


@pytest.mark.parametrize(("size", "options"), [(3, {}), (4, {}), (4, {"codes": tuple(CODE_SIZES), "code_dropout": 0.5})])
def test_looked_up_batches_are_those_that_are_encoded_one_by_one(
    size: int, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = batches(12, batch_size=size, **options)
    monkeypatch.setattr("hrm_submit.train.batches.RESIDENT_BYTES", 0)
    for ours, plain in zip(looked_up, batches(12, batch_size=size, **options), strict=True):
        for name in ("inputs", "labels", "ids", "dihedral"):
            a, b = getattr(ours.batch, name), getattr(plain.batch, name)
            assert a.dtype == b.dtype and torch.equal(a, b), name


def test_codes_stand_beside_the_same_tokens_and_kinds_are_left_out() -> None:
    kinds = tuple(CODE_SIZES)
    plain, coded = batches(30), batches(30, codes=kinds, code_dropout=0.5)
    kept = Counter()
    for without, item in zip(plain, coded, strict=True):
        assert torch.equal(item.batch.inputs[..., 0], without.batch.inputs) and torch.equal(item.batch.labels, without.batch.labels)
        whole = with_codes(without.batch.inputs.numpy(), kinds)
        for shown, full in zip(item.batch.inputs.numpy(), whole, strict=True):
            assert ((shown == full) | (shown == NO_CODE)).all()
            kept[(shown[:, 11] == full[:, 11]).all()] += 1
    assert 30 < kept[True] < 90, "of 120 examples half keep the one feature of `frequency`"
