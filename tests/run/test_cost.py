"""What a segment costs: operations against those that torch counts, bytes against those that autograd keeps, seconds against made-up
devices."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.canvas import position_ids
from hrm_submit.arc.task import make_grid
from hrm_submit.config.schema import ModelConfig, TrainConfig, VoteConfig
from hrm_submit.model.act import Batch, act_step, initial_act_carry
from hrm_submit.model.hrm import HRM
from hrm_submit.model.losses import segment_loss
from hrm_submit.model.weights import PLAIN, build
from hrm_submit.predict.answer import ViewRequest, score_views
from hrm_submit.run.cost import Speed, batch_that_fits, segment_work, training_bytes, view_work

SMALL = ModelConfig(
    hidden_size=64,
    num_heads=2,
    H_layers=1,
    L_layers=1,
    H_cycles=1,
    L_cycles=1,
    puzzle_emb_ndim=64,
    halt_max_steps=4,
    continue_target=False,
    embedding="shared",
)
SEVERAL_CYCLES = replace(SMALL, H_layers=2, H_cycles=2, L_cycles=3)
"""Published-like: states are updated many times, and the last update alone is back-propagated."""


def run_segment(
    config: ModelConfig,
    side: int,
    batch: int,
    dtype: torch.dtype = torch.float32,
    attention: str = "math",
    forward: AbstractContextManager[object] | None = None,
) -> HRM:
    """Forward (inside `forward`), loss and backward of `batch` canvases of `side`; returns the model."""
    model, embedding = build(config, replace(PLAIN, dtype=str(dtype).removeprefix("torch."), attention=attention))  # type: ignore[arg-type]
    tokens = torch.randint(0, 12, (batch, side * side), generator=torch.Generator().manual_seed(0))
    ids = torch.zeros(batch, dtype=torch.long)
    given = Batch(tokens, tokens, ids, ids)
    carry = initial_act_carry(model, given)
    with forward or nullcontext():
        carry, output = act_step(
            model, embedding, carry, given, torch.from_numpy(position_ids(side)), training=True, max_steps=config.halt_max_steps
        )
        loss, _ = segment_loss(output, carry, config.loss_type, None if dtype == torch.float32 else torch.float32)
    loss.backward()
    return model


@pytest.mark.parametrize(
    "model",
    [
        SEVERAL_CYCLES,
        replace(SEVERAL_CYCLES, gradient="all"),
        replace(SEVERAL_CYCLES, continue_target=True),
        replace(SMALL, hidden_size=128, num_heads=4, H_layers=2, L_layers=3, expansion=3.0, puzzle_emb_ndim=256),
        replace(SEVERAL_CYCLES, H_mixer="axial", L_mixer="none", pos_encodings="rope_2d", gradient="all"),
        replace(SEVERAL_CYCLES, H_mixer="axial", L_mixer="none", pos_encodings="rope_2d", patch=2),
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
    looking, single = replace(SMALL, continue_target=True), segment_work(SMALL, TrainConfig(batch_size=3), 36)
    assert segment_work(looking, TrainConfig(batch_size=3, segments=1), 36) == single
    assert segment_work(replace(looking, halt_max_steps=1), TrainConfig(batch_size=3, segments=4), 36) == single
    assert segment_work(looking, TrainConfig(batch_size=3, segments=4), 36) > single


@pytest.mark.parametrize(("act_steps", "views"), [(1, 3), (3, 2), (99, 2)])
def test_operations_of_views_are_those_that_torch_counts(act_steps: int, views: int) -> None:
    """A model that halts after four steps takes no more, whatever is asked."""
    model, embedding = build(SEVERAL_CYCLES, replace(PLAIN, attention="math"))
    requests = [ViewRequest(make_grid(np.ones((6, 4))), Augmentation(k), 0) for k in range(views)]
    with FlopCounterMode(display=False) as counter:
        score_views(model, embedding, requests, 7, VoteConfig(act_steps=act_steps))
    assert views * view_work(SEVERAL_CYCLES, 49, act_steps) == pytest.approx(counter.get_total_flops(), rel=0.01)


def observed(*seen: tuple[float, float, int]) -> Speed:
    """A speed that has seen works, with the seconds of all their segments and their number."""
    speed = Speed()
    for each in seen:
        speed.observe(*each)
    return speed


@given(st.floats(0.0, 2.0), st.floats(1e9, 1e13), st.lists(st.floats(1e9, 1e12), min_size=2, max_size=6, unique=True))
def test_overhead_and_rate_are_found_exactly(overhead: float, rate: float, works: list[float]) -> None:
    if max(works) < 1.2 * min(works):
        works = [works[0], 2 * works[0]]
    speed = observed(*((work, 10 * (overhead + work / rate), 10) for work in works))
    for work in (5e8, *works, 3e12):
        assert speed.seconds(work) == pytest.approx(overhead + work / rate, rel=1e-3)


def test_one_size_tells_nothing_of_the_overhead() -> None:
    """A queue of equal tasks: seconds are taken to grow with the work."""
    speed = observed((2e10, 4.0, 10), (2e10, 4.0, 10))
    assert [speed.seconds(w) for w in (2e10, 4e10)] == pytest.approx([0.4, 0.8])


def test_small_segments_count_as_much_as_large_ones() -> None:
    """An error of a fifth in segments of ten seconds says nothing against what segments of a millisecond took."""
    speed = observed((1e5, 0.0011, 1), (1e6, 0.002, 1), (1e10, 8.0, 1), (2e10, 24.0, 1))
    assert speed.seconds(1e5) == pytest.approx(0.0011, rel=0.15)
    assert speed.seconds(1e6) == pytest.approx(0.002, rel=0.15)
    assert speed.seconds(2e10) == pytest.approx(20.0, rel=0.25)


measurements = st.lists(st.tuples(st.floats(1e3, 1e14), st.floats(1e-6, 1e4), st.integers(1, 500)), min_size=1, max_size=8)


@given(measurements, st.floats(1e3, 1e14))
def test_a_prediction_is_never_negative_and_never_falls_with_the_work(seen: list[tuple[float, float, int]], work: float) -> None:
    speed = observed(*seen)
    assert 0 <= speed.seconds(work) < float("inf")
    assert speed.seconds(2 * work) >= speed.seconds(work) * (1 - 1e-9)


def test_what_is_no_measurement_teaches_nothing() -> None:
    assert not observed((1e9, 1.0, 0), (1e9, 0.0, 5), (1e9, -1.0, 5), (0.0, 1.0, 5), (1e9, 1.0, -3)).measured


LOOSE = 2.0
"""An estimate may be this many times what is kept: more would leave half of a GPU's memory empty."""


def kept_bytes(model: ModelConfig, side: int, batch: int, dtype: torch.dtype, attention: str) -> int:
    """Bytes of the distinct storages that autograd keeps between forward and backward, weights and their copies left out."""
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.detach())
        return tensor

    run = run_segment(model, side, batch, dtype, attention, saved_tensors_hooks(keep, lambda tensor: tensor))
    weights = {p.shape for p in run.parameters()} | {p.t().shape for p in run.parameters() if p.ndim == 2}
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept if t.shape not in weights}
    return sum(storages.values())


@pytest.mark.parametrize("attention", ["math", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("model", "side", "batch"),
    [
        (SMALL, 20, 2),
        (replace(SMALL, hidden_size=128, num_heads=4, H_layers=2, L_layers=2, expansion=3.0, puzzle_emb_ndim=128, gradient="all"), 12, 8),
        (replace(SMALL, num_heads=16), 25, 1),  # where attention's square tables are most of it
        (SEVERAL_CYCLES, 10, 4),
        (replace(SEVERAL_CYCLES, H_cycles=4, gradient="all", L_layers=2), 10, 4),
        (replace(SEVERAL_CYCLES, continue_target=True), 10, 4),
        (replace(SMALL, H_layers=2, H_mixer="axial", L_mixer="none", pos_encodings="rope_2d", gradient="all"), 12, 8),
        (replace(SMALL, H_layers=2, H_mixer="axial", L_mixer="none", pos_encodings="rope_2d", gradient="all", patch=2), 13, 8),
        (replace(SMALL, hidden_size=256, num_heads=8, H_layers=2, L_layers=2, puzzle_emb_ndim=256), 15, 4),
    ],
)
def test_the_estimate_is_above_what_is_kept_and_not_far_above(
    model: ModelConfig, side: int, batch: int, dtype: torch.dtype, attention: str
) -> None:
    def estimate(sequences: int) -> int:
        return training_bytes(model, side * side, sequences, element=dtype.itemsize, fused_attention=attention == "sdpa")

    kept = kept_bytes(model, side, batch, dtype, attention)
    assert kept <= estimate(batch) - estimate(0) <= LOOSE * kept


def test_a_batch_is_halved_until_it_fits() -> None:
    def need(batch: int) -> int:
        return training_bytes(SMALL, 400, batch, element=4, fused_attention=False)

    def fitting(free: float) -> int:
        return batch_that_fits(int(free), SMALL, 400, 32, element=4, fused_attention=False)

    assert fitting(need(32) / 0.9 + 1024) == 32
    assert fitting(need(32) / 0.9 - 1024) == 16
    assert fitting(need(8) / 0.9 + 1024) == 8
    assert fitting(0) == 1
