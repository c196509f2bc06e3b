"""The benchmark: its counts, its baselines and its turns are what they say; bad names are one line. Nothing here is timed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmark
import numpy as np
import pytest
import torch
from lab.bench.estimate import elsewhere
from lab.bench.estimate import rows as estimate_rows
from lab.bench.growth import draw
from lab.bench.processes import _once
from lab.bench.published import ACT_STEPS, SIDE, augmented, exact
from lab.bench.rows import Row, against, shown
from lab.bench.timing import medians
from lab.bench.training import faster_ways
from lab.bench.work import ARC_1, Way, batch_of, our_way, published_way, sample, segment, solutions, trainer
from lab.parity import compare
from torch.utils.flop_counter import FlopCounterMode

from hrm_submit.arc.canvas import PackedPairs, encode
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.schema import ModelConfig, Preset, TTTConfig
from hrm_submit.model.act import act_step, draw_least, initial_act_carry
from hrm_submit.model.losses import segment_loss
from hrm_submit.model.weights import build
from hrm_submit.run.cost import segment_work

DATA = Path(__file__).parents[3] / "model" / "data"
TINY = Preset(
    model=ModelConfig(hidden_size=16, num_heads=2, H_layers=2, L_layers=1, H_cycles=2, L_cycles=3, puzzle_emb_ndim=16, halt_max_steps=4),
    ttt=TTTConfig(optimizer="adamw", batch_size=3, segments=2, augmentations=20),
)
RNG = np.random.default_rng(5)
PAIRS = tuple(Pair(make_grid(RNG.integers(0, 10, (4, 2 + k))), make_grid(RNG.integers(0, 10, (3, 5 - k)))) for k in range(3))
TASK = Task("some", PAIRS, (PAIRS[0].input,))


def one_segment(way: Way) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of a first segment, without the training loop."""
    model, embedding = build(way.preset.model, n_rows=20, attention=way.runtime.attention)  # type: ignore[arg-type]
    item, config = batch_of(TASK, way), way.preset
    most = min(config.ttt.segments, config.model.halt_max_steps)
    drawn = torch.Generator().manual_seed(0)
    carry, output = act_step(
        model,
        embedding,
        initial_act_carry(model, item.batch),
        item.batch,
        item.positions,
        training=True,
        max_steps=most,
        least=draw_least(config.ttt.batch_size, most, config.model.halt_exploration_prob, drawn),
    )
    loss = segment_loss(output, carry, config.model.loss_type)[0] / config.ttt.batch_size
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("gradient", ["last", "all"])
@pytest.mark.parametrize(("target", "segments"), [(True, 2), (True, 1), (False, 2)])
def test_operations_are_those_that_torch_counts(gradient: str, target: bool, segments: int) -> None:
    preset = replace(
        TINY,
        model=replace(TINY.model, gradient=gradient, continue_target=target),  # type: ignore[arg-type]
        ttt=replace(TINY.ttt, segments=segments),
    )
    # Fused attention computes some products anew in its backward pass, which is not useful work.
    way = replace(our_way(preset, "cpu", 7), runtime=replace(our_way(preset, "cpu").runtime, attention="math", dtype="float32"))
    with FlopCounterMode(display=False) as counter:
        one_segment(way)
    assert segment_work(preset.model, preset.ttt, 49) == counter.get_total_flops()


def test_the_published_rule_in_numpy_makes_what_the_kernel_makes() -> None:
    packed, seen = PackedPairs.from_pairs(PAIRS), set()
    for seed in range(60):
        k = seed % len(PAIRS)
        given, wanted = augmented(PAIRS[k], np.random.default_rng(seed))
        draws = np.random.default_rng(seed)
        turn, colours = int(draws.integers(0, 8)), [0, *draws.permutation(np.arange(1, 10))]
        turned = turn in (1, 3, 6, 7)
        extent = np.maximum(PAIRS[k].input.shape, PAIRS[k].output.shape)[:: -1 if turned else 1]
        offset = [int(draws.integers(0, SIDE - size + 1)) for size in extent]
        inputs, labels = encode(packed, *(np.array([v]) for v in (k, turn, colours, offset)), SIDE)
        np.testing.assert_array_equal(given, inputs[0])
        np.testing.assert_array_equal(wanted, labels[0])
        seen.add(turn)
    assert seen == set(range(8))


def test_the_published_way_has_every_published_value() -> None:
    way = published_way(load_preset("hrm-27m"), "cpu")
    assert way.preset.model == ModelConfig() and way.side == SIDE and not way.compiled
    assert (way.preset.ttt.segments, way.preset.ttt.optimizer) == (ACT_STEPS, "adam_atan2")
    nano = exact(load_preset("nano"))
    assert nano.model.continue_target and nano.model.halt_max_steps == ACT_STEPS
    assert nano.model.hidden_size == load_preset("nano").model.hidden_size


def test_the_published_way_trains_by_the_model_that_agrees_with_the_published_one() -> None:
    way = published_way(replace(TINY, device=replace(TINY.device, dtype="float32")), "cpu")
    report: Any = segment(trainer(way), batch_of(TASK, way))()
    loss, gradients = one_segment(way)
    assert batch_of(TASK, way).positions.tolist() == list(range(900))
    assert report.loss.item() == pytest.approx(loss.item(), rel=1e-6) and gradients
    rows = list(compare(DATA / "recorded_rope.npz", way.runtime.attention))
    assert len(rows) > 50 and all(row.passed for row in rows)


def test_turns_are_taken_and_the_first_round_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, done = [0.0], []

    def call(name: str, *lengths: float) -> Any:
        left = iter(lengths)

        def run() -> None:
            done.append(name)
            now[0] += next(left)

        return run

    monkeypatch.setattr("lab.bench.timing.time.perf_counter", lambda: now[0])
    calls = {"a": call("a", 90.0, 1.0, 5.0, 2.0), "b": call("b", 80.0, 7.0, 3.0, 4.0)}
    assert medians(calls, repeats=3) == {"a": 2.0, "b": 4.0}
    assert done == ["a", "b"] * 4


def test_tasks_are_spread_over_the_sizes() -> None:
    tasks = sample(ARC_1, 5)
    sides = [canvas_side(task) for task in tasks]
    assert sides == sorted(sides) and sides[0] < 12 < sides[-1] and len({task.id for task in tasks}) == 5
    assert all(canvas_side(task) <= 9 for task in sample(ARC_1, 3, largest=9))
    assert [len(outputs) for outputs in solutions(ARC_1, tasks).values()] == [len(task.test) for task in tasks]


def test_a_ratio_is_above_1_where_the_value_is_better() -> None:
    assert against("g", "n", "examples/s", 6.0, "b", 2.0).ratio == 3.0
    assert against("g", "n", "s", 2.0, "b", 6.0, faster=False).ratio == 3.0


def test_an_unknown_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["training", "speed"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and "speed" in told.err and "augmentation" in told.err


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_a_place_that_cannot_be_written_is_one_line_before_anything_is_measured(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["growth", option, str(tmp_path / "none" / "f.svg")]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and "no such folder" in told.err


def test_an_unknown_preset_is_one_line_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["start", "--presets", "nano,huge", "--devices", "cpu"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("benchmark: ") and "huge" in last


@pytest.mark.parametrize(
    ("value", "text"), [(826634.86, "826,600"), (5067.59, "5068"), (0.66666, "0.6667"), (2.0, "2"), (12345, "12345"), ("a", "a")]
)
def test_a_figure_has_four_digits_and_no_exponent(value: object, text: str) -> None:
    assert shown(value) == text


def test_rows_are_written_as_json_and_shown_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f.json"
    options = ["augmentation", "--repeats", "1", "--tasks", "1", "--devices", "cpu", "--json", str(path), "--markdown"]
    assert benchmark.main(options) == 0
    written = json.loads(path.read_text())
    assert {"machine", "device", "threads", "python", "torch", "numpy", "numba"} <= set(written["about"])
    assert {row["group"] for row in written["rows"]} == {"augmentation"}
    for row in written["rows"]:
        assert row["unit"] == "examples/s" and row["ratio"] == pytest.approx(row["value"] / row["base_value"]) and row["baseline"]
    told = capsys.readouterr()
    table = [line for line in told.out.splitlines() if line.startswith("| augmentation |")]
    assert len(table) == len(written["rows"]) == 3 and "numpy" in table[0]
    assert told.err.count("augmentation: ") == 3, "each row is shown when it is done"


def test_a_process_of_its_own_trains_a_segment() -> None:
    assert _once("start", "cpu")["at"] > 1.7e9


def test_growth_is_drawn(tmp_path: Path) -> None:
    rows = [Row("growth", key, value, "s", more={key: n}) for key in ("tokens", "batch", "tasks") for n, value in ((1, 1.0), (4, 2.0))]
    drawn = {}
    for name, extra in (("one", []), ("two", [Row("growth", "tokens", 0.5, "s", more={"tokens": 4, "preset": "nano-2d"})])):
        draw(rows + extra, tmp_path / f"{name}.svg")
        drawn[name] = (tmp_path / f"{name}.svg").read_text()
        assert drawn[name].lstrip().startswith("<?xml") and drawn[name].count("tokens") and "</svg>" in drawn[name]
    draw([Row("training", "nano", 9.0, "examples/s", more={"batch": 4, "tasks": 3}), *rows], tmp_path / "all.svg")
    assert (tmp_path / "all.svg").read_text().count("<use ") == drawn["one"].count("<use "), "rows of other groups are not drawn"
    assert "legend" in drawn["two"] and "legend" not in drawn["one"], "lines of two presets are told apart"


def test_without_a_gpu_there_is_no_estimate() -> None:
    assert estimate_rows(1, "cpu", ["nano"], 1) == []


def test_a_slower_card_takes_longer_only_where_kernels_fill_the_time() -> None:
    assert elsewhere(1.0, busy=0.1, slower=5.0) == 1.0, "launches take the CPU as long"
    assert elsewhere(1.0, busy=0.9, slower=5.0) == 4.5


def test_faster_ways_are_those_of_a_gpu_and_train_alike() -> None:
    way = our_way(TINY, "cpu")
    assert faster_ways(way) == {}
    on_gpu = faster_ways(replace(way, runtime=replace(way.runtime, device="cuda:0")))
    assert [(w.runtime.compile, w.runtime.cuda_graphs) for w in on_gpu.values()] == [(True, False), (False, True), (True, True)]
    single = replace(TINY, model=replace(TINY.model, halt_max_steps=1), ttt=replace(TINY.ttt, segments=1))
    plain = our_way(single, "cpu")
    recorded = replace(plain, runtime=replace(plain.runtime, cuda_graphs=True))
    losses = [segment(trainer(w), batch_of(TASK, w))().loss.item() for w in (plain, recorded)]  # type: ignore[attr-defined]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
