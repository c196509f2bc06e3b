"""The benchmark: its baselines and its rounds are what they say, and wrong names are one line. Nothing here is timed."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import benchmark
import numpy as np
import pytest
from lab.benchmark import Row, sample, shown
from lab.published import ACT_STEPS, SIDE, augmented, kit_way, medians, published_way, segment
from torch.utils.flop_counter import FlopCounterMode

from hrm_submit.arc.canvas import PackedPairs, encode
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Pair, make_grid
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.schema import DeviceConfig, ModelConfig, Preset, TTTConfig
from hrm_submit.run.cost import segment_work

TINY = Preset(
    model=ModelConfig(hidden_size=16, num_heads=2, H_layers=2, L_layers=1, H_cycles=2, L_cycles=3, puzzle_emb_ndim=16, halt_max_steps=4),
    ttt=TTTConfig(optimizer="adamw", batch_size=3, segments=2, augmentations=20),
    device=DeviceConfig(dtype="float32", attention="math"),
)
RNG = np.random.default_rng(5)
PAIRS = tuple(Pair(make_grid(RNG.integers(0, 10, (4, 2 + k))), make_grid(RNG.integers(0, 10, (3, 5 - k)))) for k in range(3))


@pytest.mark.parametrize("gradient", ["last", "all"])
@pytest.mark.parametrize(("target", "segments"), [(True, 2), (True, 1), (False, 2)])
def test_operations_are_those_that_torch_counts(gradient: Any, target: bool, segments: int) -> None:
    model = replace(TINY.model, gradient=gradient, continue_target=target)
    # Fused attention computes some products again in its backward pass, which is not useful work.
    preset = replace(TINY, model=model, ttt=replace(TINY.ttt, segments=segments))
    with FlopCounterMode(display=False) as counter:
        segment(kit_way(preset, "cpu"), 7)()
    # The update of the task rows sums them by a small product.
    assert counter.get_total_flops() == pytest.approx(segment_work(preset.model, preset.ttt, 49), rel=1e-5)


def test_the_published_rule_in_numpy_gives_the_tokens_of_the_kernel() -> None:
    packed, seen = PackedPairs.from_pairs(PAIRS), set()
    for seed in range(60):
        k = seed % len(PAIRS)
        given, wanted = augmented(PAIRS[k], np.random.default_rng(seed))
        draws = np.random.default_rng(seed)
        turn, colours = int(draws.integers(0, 8)), [0, *draws.permutation(np.arange(1, 10))]
        extent = np.maximum(PAIRS[k].input.shape, PAIRS[k].output.shape)[:: -1 if turn in (1, 3, 6, 7) else 1]
        offset = [int(draws.integers(0, SIDE - size + 1)) for size in extent]
        inputs, labels = encode(packed, *(np.array([v]) for v in (k, turn, colours)), SIDE, np.array([offset]))
        np.testing.assert_array_equal(given, inputs[0])
        np.testing.assert_array_equal(wanted, labels[0])
        seen.add(turn)
    assert seen == set(range(8))


def test_the_published_way_has_every_published_value() -> None:
    way = published_way(kit_way("hrm-27m", "cpu"))
    assert way.preset.model == ModelConfig() and way.runtime.kernels == "torch" and not way.whole
    assert (way.preset.ttt.segments, way.preset.ttt.optimizer) == (ACT_STEPS, "adam_atan2")
    nano = published_way(kit_way("nano-2d", "cpu")).preset
    assert nano.model.continue_target and nano.model.H_mixer == nano.model.L_mixer == "attention"
    assert nano.model.hidden_size == load_preset("nano-2d").model.hidden_size


def test_calls_take_turns_and_the_first_round_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, done = [0.0], []
    lengths = {"a": iter((90.0, 1.0, 5.0, 2.0)), "b": iter((80.0, 7.0, 3.0, 4.0))}

    def call(name: str) -> None:
        done.append(name)
        now[0] += next(lengths[name])

    monkeypatch.setattr("lab.published.time.perf_counter", lambda: now[0])
    assert medians({name: partial(call, name) for name in lengths}, repeats=3) == {"a": 2.0, "b": 4.0}
    assert done == ["a", "b"] * 4


def test_tasks_are_spread_over_the_sizes() -> None:
    sides = [canvas_side(task) for task in sample(5)]
    assert sides == sorted(sides) and sides[0] < 12 < sides[-1] and sides[2] == canvas_side(sample(1)[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["training", "speed"], "no row speed; known: augmentation"),
        (["start", "--json", "none/f.json"], "no such folder"),
    ],
)
def test_wrong_names_are_one_line_before_anything_is_measured(words: list[str], said: str, refused: Any) -> None:
    assert said in refused(benchmark.main, [*words, "--devices", "cpu"])


def test_rows_are_written_as_json_and_shown_as_a_table(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.json"
    monkeypatch.setattr("lab.benchmark.TASKS", 1)
    monkeypatch.setattr("lab.benchmark.REPEATS", 1)
    assert benchmark.main(["augmentation", "--devices", "cpu", "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    assert {"machine", "device", "python", "torch", "numpy", "numba"} <= set(written["about"])
    assert written["weights"] and not written["values"]["start"]
    told = capsys.readouterr()
    table = [line for line in told.out.splitlines() if line.startswith("augmentation ")]
    assert len(table) == len(written["table"]) == len(written["values"]["augmentation"]) == 3 and "numpy" in table[0]
    assert told.err.count("augmentation  ") == 3, "each row is shown when it is done"
    assert shown(826634.86) == "826,600" and shown(0.66666) == "0.6667", "four digits"
    assert Row("g", "n", 6.0, "examples/s", "b", 2.0).ratio == Row("g", "n", 2.0, "s", "b", 6.0).ratio == 3.0, "the value is better"
