"""The stream of batches against plain numpy: what comes, how often, on which canvas, with which rows."""

import threading
from collections import Counter
from dataclasses import replace
from functools import cache, partial
from itertools import islice, product
from typing import Any

import numpy as np
import pytest
import torch

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.canvas import position_ids
from hrm_submit.arc.codes import NO_CODE, with_codes
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.arc.training_task import TrainingTask, within
from hrm_submit.config.schema import CODE_SIZES, ModelConfig, TrainConfig
from hrm_submit.core.errors import TrainError
from hrm_submit.train.mixture import Mixture, ahead
from hrm_submit.train.ranks import Ranks
from tests.arc.strategies import plain_canvas

SHARED = ModelConfig(embedding="shared")
AUGMENTED = ModelConfig(embedding="augmented")
CONFIG = TrainConfig(batch_size=6, augmentations=8, translate=False)


def task(number: int, side: int, pairs: int = 3, weight: float = 1.0) -> TrainingTask:
    """A task whose pairs no other task has, with a grid as large as `side`."""
    rng = np.random.default_rng([7, number])
    made = [Pair(make_grid(rng.integers(0, 10, (side, 2))), make_grid(rng.integers(0, 10, (1, side)))) for _ in range(pairs)]
    return TrainingTask(Task(f"set/t{number}", tuple(made), ()), f"t{number}", weight)


TASKS = [task(0, 3), task(1, 3, pairs=1), task(2, 5, weight=0.5), task(3, 3, weight=3.0), task(4, 7)]


def numbers(mixture: Mixture, count: int) -> list[Any]:
    return [mixture.batch(n) for n in range(count)]


def drawings(mixture: Mixture, number: int, side: int, translate: bool) -> set[tuple[bytes, bytes, int]]:
    """Input tokens, labels and transform of every pair of a task in each of its views, at every place on the canvas."""
    found = set()
    for turn, colours in zip(*mixture.views_of(number), strict=True):
        for pair in TASKS[number].pairs:
            grids = [Augmentation(int(turn), tuple(colours.tolist())).apply(grid) for grid in (pair.input, pair.output)]
            rows, columns = (side - max(grid.shape[axis] for grid in grids) for axis in (0, 1))
            for offset in product(range(rows + 1), range(columns + 1)) if translate else [(0, 0)]:
                inputs, outputs = (plain_canvas(grid, offset, side).ravel().astype(np.int64) for grid in grids)
                found.add((inputs.tobytes(), np.where(outputs == 0, -100, outputs).tobytes(), int(turn)))
    return found


@pytest.mark.parametrize("translate", [False, True])
@pytest.mark.parametrize("model", [SHARED, AUGMENTED], ids=["shared", "augmented"])
def test_every_example_is_a_pair_of_the_task_that_its_row_names(model: ModelConfig, translate: bool) -> None:
    mixture = Mixture(TASKS, model, replace(CONFIG, translate=translate), seed=1)
    drawn, turns = cache(partial(drawings, mixture, translate=translate)), dict[int, set[int]]()
    for made in numbers(mixture, 60 if model is AUGMENTED else 8):
        side = int(made.batch.inputs.shape[1] ** 0.5)
        assert torch.equal(made.positions, torch.from_numpy(position_ids(side)))
        batch = made.batch
        for inputs, labels, row, turn in zip(batch.inputs, batch.labels, batch.ids.tolist(), batch.dihedral.tolist(), strict=True):
            turns.setdefault(row, set()).add(turn)
            source = row if model is SHARED else row // CONFIG.augmentations
            assert side == canvas_side(TASKS[source].task), "each task pays for its own canvas"
            assert (inputs.long().numpy().tobytes(), labels.long().numpy().tobytes(), turn) in drawn(source, side)
    if model is AUGMENTED:
        assert len(turns) == 5 * 8 and all(len(own) == 1 for own in turns.values()), "a row is one augmentation"


def test_tasks_come_by_weight_and_pairs_and_views_evenly() -> None:
    mixture = Mixture(TASKS, SHARED, replace(CONFIG, batch_size=16, colours="fixed"), seed=3)
    made = numbers(mixture, 600)
    rows = Counter(row for item in made for row in item.batch.ids.tolist())
    total = sum(s.weight for s in TASKS)
    # A batch holds one canvas only, so it is batches, not examples, that are drawn independently: 5 deviations of that.
    for number, source in enumerate(TASKS):
        share = source.weight / total
        assert rows[number] / (600 * 16) == pytest.approx(share, abs=5 * (share * (1 - share) / 600) ** 0.5)
    turns = Counter(turn for item in made for turn in item.batch.dihedral.tolist())
    assert sum((n - 1200) ** 2 / 1200 for n in turns.values()) < 40 and len(turns) == 8, "chi-square of 7 degrees of freedom"
    alone = [item for item in made if set(item.batch.ids.tolist()) == {4}]
    contents = Counter(sheet.tobytes() for item in alone for sheet in item.batch.inputs.numpy())
    assert len(contents) == 3 * 8 and max(contents.values()) < 2.2 * min(contents.values()), "3 pairs, 8 views"


def test_codes_stand_beside_the_same_tokens_and_kinds_are_left_out() -> None:
    kinds = tuple(CODE_SIZES)
    plain, coded = (Mixture(TASKS, replace(SHARED, codes=c), replace(CONFIG, code_dropout=0.5), seed=1) for c in ((), kinds))
    hidden = 0
    for without, item in zip(numbers(plain, 20), numbers(coded, 20), strict=True):
        whole = torch.from_numpy(with_codes(without.batch.inputs.numpy(), kinds))
        assert torch.equal(item.batch.inputs[..., 0], without.batch.inputs)
        assert ((item.batch.inputs == whole) | (item.batch.inputs == NO_CODE)).all()
        hidden += int((item.batch.inputs[:, 0, 11] == NO_CODE).sum())
    assert 30 < hidden < 90, "of 120 examples half lack the one feature of `frequency`"


def test_tasks_that_need_a_larger_canvas_or_a_smaller_one_are_left_out() -> None:
    mixture = Mixture(TASKS, SHARED, replace(CONFIG, max_side=5), seed=0)
    assert mixture.left_out == ["set/t4"] and mixture.row_ids == [f"set/t{n}" for n in range(4)] and mixture.n_rows == 4
    augmented = Mixture(TASKS, AUGMENTED, replace(CONFIG, max_side=5), seed=0)
    assert augmented.n_rows == 32 and augmented.row_ids == [], "no task has a row of its own"
    assert max(item.batch.inputs.shape[1] for item in numbers(mixture, 40)) == 25
    with pytest.raises(TrainError, match="no task needs a canvas of side 1 to 2"):
        Mixture(TASKS, SHARED, replace(CONFIG, max_side=2), seed=0)
    large = Mixture(TASKS, SHARED, replace(CONFIG, min_side=5), seed=0)
    assert {s.id for s in large.sources} == {s.id for s in TASKS if canvas_side(s.task) >= 5} != {s.id for s in TASKS}
    assert {item.batch.inputs.shape[1] for item in numbers(large, 40)} == {25, 49}


@pytest.mark.parametrize(("world", "sizes"), [(1, {3: 6, 5: 4, 7: 2}), (2, {3: 6, 5: 4, 7: 2}), (3, {3: 6, 5: 3, 7: 3})])
def test_a_batch_has_no_more_cells_than_it_may(world: int, sizes: dict[int, int]) -> None:
    mixture = Mixture(TASKS, SHARED, replace(CONFIG, batch_tokens=100), seed=0)
    for n in range(40):
        parts = [mixture.batch(n, Ranks(rank, world)).batch.inputs for rank in range(world)]
        side = round(parts[0].shape[1] ** 0.5)
        assert {len(p) for p in parts} == {sizes[side] // world}
    halved = {mixture.batch(n, batch_size=3).batch.inputs.shape for n in range(40)}
    assert halved == {(3, 9), (2, 25), (1, 49)}, "where cells were the limit, too: half of what did not fit"


def test_a_generated_task_keeps_the_pairs_that_fit() -> None:
    """Each is an example of its own, and among a hundred some are always large; of a task with a test all pairs belong together."""
    small, large = task(5, 4, pairs=2), task(6, 9, pairs=3)
    mixed = Task("gen/k", small.pairs + large.pairs, ())
    generated = TrainingTask(mixed, "k", generated=True)
    mixture = Mixture([generated, replace(generated, generated=False), TASKS[0]], SHARED, replace(CONFIG, max_side=5), seed=0)
    assert [s.id for s in mixture.sources] == ["gen/k", "set/t0"] and mixture.left_out == ["gen/k"]
    assert mixture.sources[0].pairs == small.pairs and set(mixture.sources[0].hashes) == set(small.hashes)
    assert max(item.batch.inputs.shape[1] for item in numbers(mixture, 40)) == 16
    assert within(replace(generated, task=Task("gen/l", large.pairs, ())), 5) is None


@pytest.mark.parametrize("generated", [True, False])
def test_each_pair_has_its_own_canvas(generated: bool) -> None:
    """Sides 3 and 4 share one of 4, 7 is shown on 8, 9 on 9, as no canvas may be larger; every pair comes as often as another."""
    pairs = tuple(Pair(make_grid(np.full((side, 1), side)), make_grid([[side]])) for side in (3, 4, 7, 9))
    source = TrainingTask(Task("gen/k", pairs, ()), "k", generated=generated)
    mixture = Mixture([source, task(0, 3)], SHARED, replace(CONFIG, max_side=9, colours="fixed"), seed=0)
    seen: Counter[tuple[int, int]] = Counter()
    drawn = 0
    for item in numbers(mixture, 1200):
        canvas = round(len(item.positions) ** 0.5)
        assert torch.equal(item.positions, torch.from_numpy(position_ids(canvas)))
        ours = item.batch.inputs[item.batch.ids == 0].numpy()
        assert canvas > 3 or not len(ours)
        drawn += len(ours)
        seen.update((int(sheet.max()) - 2, canvas) for sheet in ours)
    assert sorted(seen) == [(3, 4), (4, 4), (7, 8), (9, 9)]
    assert drawn == pytest.approx(1200 * CONFIG.batch_size / 2, rel=0.1), "the task as often as the other one"
    assert all(n == pytest.approx(drawn / 4, rel=0.2) for n in seen.values())
    large = Mixture([source, task(0, 3)], SHARED, replace(CONFIG, max_side=9, min_side=5), seed=0)
    assert large.left_out == [task(0, 3).id] and {len(item.positions) for item in numbers(large, 40)} == {64, 81}


def test_ahead_gives_the_stream_from_anywhere_and_ends_its_thread() -> None:
    mixture, before = Mixture(TASKS, SHARED, CONFIG, seed=4), threading.active_count()
    stream = ahead(mixture, 3, Ranks(), 6, "cpu")
    for number, item in enumerate(islice(stream, 9), 3):
        assert torch.equal(item.batch.inputs, mixture.batch(number).batch.inputs)
    assert threading.active_count() == before + 1
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
