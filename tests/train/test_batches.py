"""Batches of a task against plain numpy: which pairs come, how they are augmented, which rows they use. And the loop over them: how many
segments a sequence gets, and what it carries from one to the next."""

from collections import Counter
from dataclasses import replace
from itertools import islice, product
from typing import Any

import numpy as np
import pytest
import torch

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.codes import NO_CODE, with_codes
from hrm_submit.arc.task import Pair, make_grid
from hrm_submit.config.schema import CODE_SIZES, TrainConfig
from hrm_submit.model.act import act_step
from hrm_submit.model.weights import build
from hrm_submit.train.batches import task_batches
from hrm_submit.train.loop import CanvasBatch, SegmentReport, Trainer
from tests.arc.strategies import plain_canvas
from tests.model.tiny import TINY

SIDE = 5
RNG = np.random.default_rng(5)
PAIRS = [Pair(make_grid(RNG.integers(0, 10, (2, 3))), make_grid(RNG.integers(0, 10, (3, 2)))) for _ in range(3)]
VIEWS = [Augmentation()] + [Augmentation(d, (0, *(int(c) for c in 1 + RNG.permutation(9)))) for d in range(1, 8)]
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


@pytest.mark.parametrize("size", [1, 4, 7])
def test_every_pair_comes_equally_often(size: int) -> None:
    seen: Counter[bytes] = Counter()
    for k, (inputs, *_) in enumerate(examples(batches(6, [Augmentation()], [0], batch_size=size)), 1):
        seen[inputs.tobytes()] += 1
        if k % 3 == 0:  # after each round of the three pairs
            assert set(seen.values()) == {k // 3} and len(seen) == 3


def test_a_batch_holds_pairs_of_one_canvas_and_every_pair_comes_equally_often() -> None:
    """The middle pair has a canvas of its own."""
    made = batches(300, [Augmentation()], [0], sides=[SIDE, 4, SIDE])
    small = [item for item in made if len(item.positions) == 16]
    assert {len(item.positions) for item in made} == {16, 25} and 70 < len(small) < 130, "a third of the batches"
    assert all((inputs.reshape(4, 4)[:2, :3] == 2 + PAIRS[1].input).all() for inputs, *_ in examples(small))
    seen = Counter(inputs.tobytes() for inputs, *_ in examples([item for item in made if len(item.positions) == 25]))
    assert len(seen) == 2 and max(seen.values()) - min(seen.values()) <= 1


def test_every_augmentation_gets_its_turn() -> None:
    counts = Counter(row for *_, row, _ in examples(batches(400)))
    assert set(counts) == set(ROWS)
    assert min(counts.values()) > 130, "of 1600 draws 200 are expected of each"


@pytest.mark.parametrize(("translate", "sides"), [(False, 1), (True, 3)])
def test_examples_are_the_augmented_pairs_and_move_with_their_labels_where_asked(translate: bool, sides: int) -> None:
    places = set()
    for inputs, labels, row, turn in examples(batches(60, translate=translate)):
        view = VIEWS[row - 40]  # the row tells which augmentation it is
        assert turn == view.dihedral
        placed = {at: [drawn(p, view, at) for p in PAIRS] for at in product(range(4), repeat=2)}
        fits = [at for at, drawings in placed.items() if any((inputs == i).all() and (labels == o).all() for i, o in drawings)]
        assert fits, "an example that is no placement of any pair"
        places.update(fits)
    assert places == set(product(range(sides), repeat=2)), "a pair of 3 by 3 has three places a side on a canvas of 5"


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


def trainer(explore: float = 0.5, halt_max_steps: int = 4, **options: object) -> Trainer:
    model, embedding = build(
        replace(TINY, halt_max_steps=halt_max_steps, halt_exploration_prob=explore, embedding="augmented"), n_rows=48, seed=7
    )
    config = TrainConfig(optimizer="adam_atan2", lr=3e-3, warmup_steps=4, decay_fraction=0.5, **{"segments": 3, **options})  # type: ignore[arg-type]
    return Trainer(model, embedding, config, torch.Generator().manual_seed(9))


@pytest.mark.parametrize(("segments", "single", "most"), [(3, 0.0, 3), (16, 0.0, 4), (1, 0.0, 1), (3, 0.5, 3), (3, 1.0, 1)])
def test_sequences_get_as_many_segments_as_configured_and_one_in_the_first_share(segments: int, single: float, most: int) -> None:
    training = trainer(segments=segments, single_segment_fraction=single)
    reports, steps = list[SegmentReport](), list[int]()
    for report in training.run(iter(batches(12)), lambda: len(reports) / 12):
        reports.append(report)
        steps.append(max((int(c.steps.max()) for c in training.carries.values()), default=1))
    assert [(r.segment, r.size, r.cells) for r in reports] == [(k, 4, 25) for k in range(1, 13)]
    assert max(steps) == most and steps[: int(12 * single)] == [1] * int(12 * single)
    assert all(r.loss.isfinite() for r in reports)


@pytest.mark.parametrize("halt_max_steps", [1, 4])
def test_the_halt_value_is_trained_where_it_is_read(halt_max_steps: int) -> None:
    """With its loss a step moves every weight otherwise, as the value is read from the same state as the cells."""
    training = trainer(halt_max_steps=halt_max_steps, segments=1)
    before, given = training.model.q_weight.clone(), batches(3)
    reports = list(training.run(iter(given), lambda: 0.5))
    assert torch.equal(training.model.q_weight, before) == (halt_max_steps == 1)
    for report in reports:
        halting = 0.5 * (report.metrics.q_halt_loss + (report.metrics.q_continue_loss or 0.0)) / report.size
        whole = report.metrics.lm_loss / report.size + (halting if halt_max_steps > 1 else 0.0)
        assert report.loss.item() == pytest.approx(whole.item(), rel=1e-5)


def test_a_longer_run_that_goes_back_to_single_segments_trains_new_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    training, trained = trainer(explore=1.0, single_segment_fraction=0.5), list[torch.Tensor]()

    def watched(*args: Any, **options: Any) -> Any:
        carry, output = act_step(*args, **options)
        trained.append(carry.data.inputs)
        return carry, output

    monkeypatch.setattr("hrm_submit.train.loop.act_step", watched)
    made, progress = batches(4), iter([0.9, 0.9, 0.1, 0.1])
    assert len(list(training.run(iter(made), lambda: next(progress)))) == 4
    same = [torch.equal(inputs, item.batch.inputs) for inputs, item in zip(trained, made, strict=True)]
    assert same == [True, False, True, True] and training.carries == {}


def test_each_canvas_size_carries_its_own_states() -> None:
    """Two sizes in turn: a sequence of one never continues from the state of the other."""
    training = trainer(explore=1.0)
    mixed = (item for two in zip(batches(3, sides=[3] * 3), batches(3, sides=[4] * 3), strict=True) for item in two)
    assert len(list(training.run(mixed, lambda: 0.0))) == 6
    assert {length: carry.inner.z_H.shape[1] for length, carry in training.carries.items()} == {9: 10, 16: 17}
    assert all(1 <= int(c.steps.max()) <= 3 for c in training.carries.values())
