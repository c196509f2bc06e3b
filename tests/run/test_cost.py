"""What a segment costs: operations against those that torch counts on the real model, and seconds against made-up devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.task import make_grid
from hrm_submit.config.schema import ModelConfig, TrainConfig, VoteConfig
from hrm_submit.model.weights import build
from hrm_submit.predict.answer import ViewRequest, score_views
from hrm_submit.run.cost import Speed, segment_work, view_work
from tests.run.segment import SEVERAL_CYCLES, SMALL, run_segment


@pytest.mark.parametrize(
    "model",
    [
        SMALL,
        SEVERAL_CYCLES,
        replace(SEVERAL_CYCLES, gradient="all"),
        replace(SEVERAL_CYCLES, continue_target=True),
        replace(SMALL, hidden_size=128, num_heads=4, H_layers=2, L_layers=3, expansion=3.0, puzzle_emb_ndim=256),
        replace(SEVERAL_CYCLES, H_cycles=3, L_layers=2, gradient="all"),
        replace(SMALL, L_mixer="none"),
        replace(SEVERAL_CYCLES, H_mixer="axial", L_mixer="none", pos_encodings="rope_2d", gradient="all"),
        replace(SEVERAL_CYCLES, H_mixer="axial", L_mixer="axial", pos_encodings="rope_2d", puzzle_emb_ndim=128),
    ],
)
@pytest.mark.parametrize(("side", "batch"), [(5, 3), (12, 2)])
def test_operations_are_those_that_torch_counts(model: ModelConfig, side: int, batch: int) -> None:
    with FlopCounterMode(display=False) as counter:
        run_segment(model, side, batch)
    assert segment_work(model, TrainConfig(batch_size=batch), side * side) == counter.get_total_flops()


def test_a_convolution_goes_back_as_twice_forth() -> None:
    """Torch counts the backward pass of a depthwise convolution as if it joined all channels; so only its forward count is taken."""
    model = replace(SMALL, conv_size=3)
    with FlopCounterMode(display=False) as counter:
        run_segment(model, 5, 3)
    counted = dict(counter.get_flop_counts()["Global"])
    counted.pop(torch.ops.aten.convolution_backward)
    expected = sum(counted.values()) + 2 * counted[torch.ops.aten.convolution]
    assert counted[torch.ops.aten.convolution] == 2 * 3 * 25 * 9 * 256 * 2, "three canvases, two blocks of 256 channels"
    assert segment_work(model, TrainConfig(batch_size=3), 25) == expected


def test_segments_that_learn_no_continue_value_are_counted_without_it() -> None:
    """Where a sequence gets one segment, none looks ahead: by the model's own limit, or by that of training."""
    looking = replace(SMALL, continue_target=True)
    with FlopCounterMode(display=False) as counter:
        run_segment(replace(looking, continue_target=False), 6, 3)
    single = counter.get_total_flops()
    assert segment_work(looking, TrainConfig(batch_size=3, segments=1), 36) == single
    assert segment_work(replace(looking, halt_max_steps=1), TrainConfig(batch_size=3, segments=4), 36) == single
    assert segment_work(looking, TrainConfig(batch_size=3, segments=4), 36) > single


@pytest.mark.parametrize(("act_steps", "views"), [(1, 3), (3, 2), (99, 2)])
def test_operations_of_views_are_those_that_torch_counts(act_steps: int, views: int) -> None:
    """A model that halts after four steps takes no more, whatever is asked."""
    model, embedding = build(SEVERAL_CYCLES, n_rows=1, seed=0, attention="math")
    requests = [ViewRequest(make_grid(np.ones((6, 4))), Augmentation(k), 0) for k in range(views)]
    with FlopCounterMode(display=False) as counter:
        score_views(model, embedding, requests, 7, VoteConfig(act_steps=act_steps))
    assert views * view_work(SEVERAL_CYCLES, 49, act_steps) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_operations_of_a_hand_worked_example() -> None:
    # One block in each module, width 2 and an inner width of 256, no task row: 16 cells, each with
    # 2 x (4 x 4 + 3 x 2 x 256) operations for its matrices and 4 x 16 x 2 for attention; then 12 logits a cell and two Q values a
    # sequence. Forward and backward three times that.
    model = replace(SMALL, hidden_size=2, num_heads=1, expansion=1.0, vocab_size=12, puzzle_emb_ndim=0)
    block = 2 * (4 * 4 + 3 * 2 * 256) + 4 * 16 * 2
    assert segment_work(model, TrainConfig(batch_size=5), 16) == 5 * 3 * (16 * (2 * block + 2 * 2 * 12) + 2 * 2 * 2)


def observed(seconds: Callable[[float], float], works: list[float], segments: int = 10) -> Speed:
    """A speed that has seen `segments` segments of each of `works`, `seconds` each."""
    speed = Speed()
    for work in works:
        speed.observe(work, segments * seconds(work), segments)
    return speed


@given(st.floats(0.0, 2.0), st.floats(1e9, 1e13), st.lists(st.floats(1e9, 1e12), min_size=2, max_size=6, unique=True))
def test_overhead_and_rate_are_found_exactly(overhead: float, rate: float, works: list[float]) -> None:
    if max(works) < 1.2 * min(works):
        works = [works[0], 2 * works[0]]
    speed = observed(lambda work: overhead + work / rate, works)
    for work in (5e8, *works, 3e12):
        assert speed.seconds(work) == pytest.approx(overhead + work / rate, rel=1e-3)


def test_a_device_that_pays_for_nothing_but_launches() -> None:
    speed = observed(lambda work: 0.25, [1e9, 1e11])
    assert speed.seconds(1e10) == pytest.approx(0.25)
    assert speed.seconds(1e12) == pytest.approx(0.25, rel=1e-6)


def test_noise_is_averaged_out() -> None:
    rng = np.random.default_rng(3)
    speed = Speed()
    for work in np.repeat([1e10, 4e10, 9e10], 60):
        speed.observe(float(work), 5 * (0.02 + work / 1e12) * float(rng.uniform(0.8, 1.25)), 5)
    for work in (1e10, 5e10, 1.5e11):
        assert speed.seconds(work) == pytest.approx(0.02 + work / 1e12, rel=0.08)


def test_one_size_tells_nothing_of_the_overhead() -> None:
    """A queue of equal tasks: seconds are taken to grow with the work."""
    speed = observed(lambda work: 0.4, [2e10, 2e10])
    assert [speed.seconds(w) for w in (2e10, 4e10)] == pytest.approx([0.4, 0.8])


def test_small_segments_count_as_much_as_large_ones() -> None:
    """An error of a fifth in segments of ten seconds says nothing against what segments of a millisecond took."""
    speed = Speed()
    for work, seconds in ((1e5, 0.0011), (1e6, 0.002), (1e10, 8.0), (2e10, 24.0)):
        speed.observe(work, seconds, 1)
    assert speed.seconds(1e5) == pytest.approx(0.0011, rel=0.15)
    assert speed.seconds(1e6) == pytest.approx(0.002, rel=0.15)
    assert speed.seconds(2e10) == pytest.approx(20.0, rel=0.25)


measurements = st.lists(st.tuples(st.floats(1e3, 1e14), st.floats(1e-6, 1e4), st.integers(1, 500)), min_size=1, max_size=8)


@given(measurements, st.floats(1e3, 1e14))
def test_a_prediction_is_never_negative_and_never_falls_with_the_work(seen: list[tuple[float, float, int]], work: float) -> None:
    speed = Speed()
    for each in seen:
        speed.observe(*each)
    assert 0 <= speed.seconds(work) < float("inf")
    assert speed.seconds(2 * work) >= speed.seconds(work) * (1 - 1e-9)


def test_without_a_measurement_there_is_no_prediction() -> None:
    speed = Speed()
    assert not speed.measured
    for nothing in ((1e9, 1.0, 0), (1e9, 0.0, 5), (1e9, -1.0, 5), (0.0, 1.0, 5), (1e9, 1.0, -3)):
        speed.observe(*nothing)
    assert not speed.measured
    with pytest.raises(ValueError, match="measured"):
        speed.seconds(1e9)


def test_the_counter_itself_counts() -> None:
    """What the first test leans on: a product of 3x5 and 5x7 matrices is 2 x 105 operations."""
    with FlopCounterMode(display=False) as counter:
        torch.ones(3, 5) @ torch.ones(5, 7)
    assert counter.get_total_flops() == 210
