"""Pre-training as a whole: what it leaves behind, that it ends decayed and on time, and what it survives."""

import math
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest
import torch

from hrm_submit.config.preset_files import load_preset
from hrm_submit.core.clock import Clock
from hrm_submit.core.errors import BusyError, CheckpointError, TrainError
from hrm_submit.core.process import locked
from hrm_submit.corpora.solutions import load_solutions
from hrm_submit.corpora.sources import load
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import PLAIN, Checkpoint, build
from hrm_submit.train import metrics
from hrm_submit.train import pretrain as pretrain_module
from hrm_submit.train.metrics import MetricsLog
from hrm_submit.train.options import PretrainOptions
from hrm_submit.train.pretrain import Pretraining, pretrain
from hrm_submit.train.ranks import Ranks
from hrm_submit.train.validate import validate
from tests.train.lab import asked, exported, lines, state, write_data

FLAT = "[train]\ndecay_fraction = 0.0\n"
NO_ROOM = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 640 bytes"


class TickingClock(Clock):
    """Moves on by `tick` seconds whenever it is read, and never otherwise."""

    def __init__(self, tick: float = 0.01) -> None:
        self.now, self.tick = 0.0, tick
        super().__init__(source=self.read)

    def read(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture(autouse=True, scope="module")
def no_plots() -> Iterator[None]:
    """Drawing one takes longer than most runs here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "plot", lambda *paths: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 10 segments that has ended."""
    folder = tmp_path_factory.mktemp("whole")
    go(asked(folder))
    return folder / "out"


@pytest.fixture
def again(whole: Path, tmp_path: Path) -> Callable[..., PretrainOptions]:
    """Options to continue a copy of that run, which is in `tmp_path`/out."""
    shutil.copytree(whole, tmp_path / "out")
    return lambda **changes: asked(tmp_path, data=whole.parent / "little_challenges.json", resume=True, **changes)


def go(options: PretrainOptions, clock: Clock | None = None) -> str:
    return pretrain(options, clock or Clock())


def same(a: Checkpoint, b: Checkpoint) -> bool:
    return all(torch.equal(a.state[name], b.state[name]) for name in a.state)


def test_undecayed_are_the_weights_before_the_rate_began_to_fall(whole: Path, tmp_path: Path) -> None:
    """The second half decays: after six of ten segments, the last of them at progress 0.5, a run that never decays is as far."""
    go(asked(tmp_path, FLAT, segments=6))
    flat = exported(tmp_path / "out")
    assert exported(whole, "undecayed").meta.steps == 6
    assert same(exported(whole, "undecayed"), flat) and not same(exported(whole), flat)
    assert same(exported(tmp_path / "out", "undecayed"), flat), "without decay both exports are the last weights"
    assert [x["rate"] for x in lines(whole)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_rows_and_origin_of_weights_go_on_with_them(whole: Path, tmp_path: Path) -> None:
    """A second run, on other tasks in another order, gives each task that the first knew its row, and the mean to the others. Its metadata
    keep what the first was trained on, over a break too: else a leak could be washed out."""
    undecayed = exported(whole, "undecayed", rows=True)
    assert undecayed.rows is not None and exported(whole, rows=True).rows is None
    assert undecayed.meta.row_ids == tuple(f"little/task{k:02d}" for k in range(4))
    data = write_data(tmp_path, 4, first=2)
    later: dict[str, Any] = {"data": data, "start_from": whole / "undecayed.safetensors"}
    trainer = Pretraining(asked(tmp_path, **later), "cpu", Ranks(), Clock()).training.trainer
    rows = trainer.embedding.rows
    assert torch.equal(rows[:2], undecayed.rows[2:4]) and not torch.equal(rows[0], rows[1])
    assert torch.equal(rows[2:], undecayed.mean_row.expand(2, -1))
    assert all(torch.equal(trainer.model.state_dict()[name], undecayed.state[name]) for name in undecayed.state)
    for more in ({"segments": 4}, {"segments": 10, "resume": True}):
        go(asked(tmp_path, **later, **more))
        meta = exported(tmp_path / "out").meta
        assert meta.card["from"]["steps"] == 6 and meta.card["from"]["data"] == list(exported(whole).meta.data)
        assert meta.data == (str(data), *exported(whole).meta.data) and len(meta.hashes) == 30, "six tasks of five pairs"
        assert set(meta.hashes) > set(exported(whole).meta.hashes)
    assert meta.steps == 10 and lines(tmp_path / "out")[0]["rate"] == pytest.approx(0.2), "a warm-up again"


def test_a_run_by_time_validates_as_often_as_asked_and_ends_in_time_and_decayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain_module, "SAVE_EVERY", 10.0)
    clock, held = TickingClock(0.05), write_data(tmp_path / "held", 3, "held", first=50)
    said = go(asked(tmp_path, budget=60.0, validate=str(held), every=10.0), clock)
    assert clock.now <= 60.0 and clock.now > 45.0
    checks, told = ([x for x in lines(tmp_path / "out") if (key in x)] for key in ("validation_pass@2", "rate"))
    assert 4 <= len(checks) <= 7 and all(b["seconds"] - a["seconds"] >= 10.0 for a, b in pairwise(checks[:-1]))
    rates = [x["rate"] for x in told]
    assert len(rates) > 100 and rates[-1] <= 0.02 and max(rates) == 1.0
    half = [x["rate"] for x in told if x["progress"] <= 0.5]
    assert half[5:] == pytest.approx([1.0] * (len(half) - 5), abs=2e-3)
    assert "decayed" in said
    steps = [exported(tmp_path / "out", name).meta.steps for name in ("undecayed", "final")]
    assert 0.4 < steps[0] / steps[1] < 0.6 and steps[1] == len(rates)
    before = (tmp_path / "out" / "final.safetensors").read_bytes()
    again = asked(tmp_path, budget=60.0, resume=True, validate=str(held), every=10.0)
    assert "nothing was left to do" in go(again) and (tmp_path / "out" / "final.safetensors").read_bytes() == before
    with pytest.raises(TrainError, match="the time was over before the first segment"):
        go(asked(tmp_path / "late", budget=60.0), TickingClock(100.0))
    assert not (tmp_path / "late" / "out" / "final.safetensors").exists()


def test_turns_by_time_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add, out = MetricsLog.add, tmp_path / "out"

    def interrupted(self: MetricsLog, report: Any, *rest: Any) -> None:
        add(self, report, *rest)
        if report.segment == 60:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "add", interrupted)
        assert "--resume" in go(asked(tmp_path, budget=60.0), TickingClock(0.05))
    spent, reached = state(out)["seconds"], lines(out)[-1]["progress"]
    assert 0.05 < reached < 0.4 and exported(out, "undecayed").meta.steps == 61
    for too_little in ({"budget": 1.0}, {"segments": 5}):
        with pytest.raises(TrainError, match=r"61 segments in .* already"):
            go(asked(tmp_path, resume=True, **too_little), TickingClock())
    assert not (out / "final.safetensors").exists()
    second = TickingClock(0.05)
    go(asked(tmp_path, budget=60.0, resume=True), second)
    assert spent + second.now <= 60.0
    after = next(x for x in lines(out) if x["segment"] == 62)
    assert reached <= after["progress"] < reached + 0.1
    assert lines(out)[-1]["rate"] <= 0.02 and exported(out).meta.seconds > spent


def test_a_finished_run_changes_only_where_it_is_longer_which_raises_its_rate_again_and_leaves_new_undecayed_weights(
    whole: Path, again: Callable[..., PretrainOptions], caplog: pytest.LogCaptureFixture
) -> None:
    options = again()
    assert "nothing was left to do" in go(options)
    assert same(exported(options.out), exported(whole)) and len(lines(options.out)) == 10
    options = replace(options, segments=40)
    go(options)
    assert "rises again" in caplog.text
    rates = {line["segment"]: line["rate"] for line in lines(options.out)}
    assert rates[10] < 0.3 and rates[12] == 1.0 and rates[40] < 0.1
    assert exported(options.out, "undecayed").meta.steps == 21


def failing_forward(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int, int], bool], fault: str = NO_ROOM) -> None:
    """Memory runs out in the forwards, counted from 1, for which `fails(number, batch size)`."""
    forward, calls = HRM.forward, [0]

    def limited(self: HRM, carry: Any, tokens: torch.Tensor, *rest: Any) -> Any:
        calls[0] += 1
        if fails(calls[0], tokens.shape[0]):
            raise RuntimeError(fault)
        return forward(self, carry, tokens, *rest)

    monkeypatch.setattr(HRM, "forward", limited)


def test_out_of_memory_halves_the_batch_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A convolution without an engine halves it once, then does without cuDNN."""
    monkeypatch.setattr(torch.backends.cudnn, "enabled", True)
    with monkeypatch.context() as patch:
        failing_forward(patch, lambda number, size: number > 3 and size > 2)
        go(asked(tmp_path))
    told = [r.getMessage() for r in caplog.records if "memory" in r.getMessage()]
    assert told == ["out of memory: the batch is now 4", "out of memory: the batch is now 2"]
    assert [x["segment"] for x in lines(tmp_path / "out")] == list(range(1, 11)) and state(tmp_path / "out")["batch_size"] == 2
    assert all(math.isfinite(x["loss"]) for x in lines(tmp_path / "out"))
    with monkeypatch.context() as patch:
        failing_forward(patch, lambda number, size: True)
        with pytest.raises(TrainError, match="out of memory with a batch of 1"):
            go(asked(tmp_path / "none"))
    failing_forward(monkeypatch, lambda number, size: torch.backends.cudnn.enabled, "unable to find an engine to execute this computation")
    go(asked(tmp_path / "engine"))
    assert state(tmp_path / "engine" / "out")["batch_size"] == 4 and "continuing without it" in caplog.text


def test_a_full_disk_keeps_the_file_before_and_the_run_goes_on(
    again: Callable[..., PretrainOptions], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = again(segments=12)
    before = (options.out / "state.pt").read_bytes()
    (options.out / ".state.pt.tmp").symlink_to("/dev/full")
    go(options)
    assert (options.out / "state.pt").read_bytes() == before and exported(options.out).meta.steps == 12
    assert "could not be saved" in caplog.text and "the earlier one stays" in caplog.text
    assert [p.name for p in options.out.iterdir() if p.name.endswith(".tmp")] == []
    monkeypatch.setattr(pretrain_module, "save_checkpoint", Mock(side_effect=CheckpointError("No space left on device")))
    go(replace(options, segments=14))
    assert exported(options.out).meta.steps == 12 and state(options.out)["segment"] == 14
    assert "No space left" in caplog.text and "the earlier file stays" in caplog.text


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_reduced_precision_trains_and_another_one_goes_on(tmp_path: Path, dtype: str) -> None:
    """float16 with its loss scaled; a later turn may be on a device that knows another format."""
    text = '[device]\ndtype = "{}"\n[train]\nsegments = 2\nlr = 1e-2\nwarmup_steps = 2\n[model]\nhalt_max_steps = 2\n'
    go(asked(tmp_path, text.format(dtype), segments=60))
    losses = [x["loss"] for x in lines(tmp_path / "out")]
    assert all(math.isfinite(x) for x in losses) and sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert all(t.dtype == torch.float32 for t in exported(tmp_path / "out").state.values())
    go(asked(tmp_path, text.format("bfloat16" if dtype == "float16" else "float16"), segments=64, resume=True))
    assert all(math.isfinite(x["loss"]) for x in lines(tmp_path / "out")) and len(lines(tmp_path / "out")) == 64


def test_the_blocks_are_compiled_where_the_preset_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function, *args, **options: compiled.append(function) or function)
    for engine in ("auto", "compile"):
        Pretraining(asked(tmp_path, f'[device]\nengine = "{engine}"\n'), "cpu", Ranks(), Clock())
        assert bool(compiled) == (engine == "compile")


def test_validation_measures_the_weights_that_final_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The held-out figures by hand: votes of the exported checkpoint itself, loaded anew."""
    held, out = write_data(tmp_path / "held", 3, "held", first=50), tmp_path / "out"
    options = asked(tmp_path, "[train]\nlr = 1e-2\n", segments=30, validate=str(held), every=1e9)
    go(options)
    (line,) = [x for x in lines(out) if "validation_pass@2" in x]
    card = exported(out).meta.card["validation"]
    tasks, solutions = load(held), load_solutions(held.with_name("held_solutions.json"))
    result = validate(*build(exported(out), replace(PLAIN, attention="math")), tasks, solutions, load_preset(options.presets))
    assert result is not None and line["validation_pass@2"] == card["pass@2"] == result["pass@2"]
    assert line["validation_tasks"] == 3 and line["segment"] == 30 and card["data"] == str(held)
    monkeypatch.setattr(pretrain_module, "validate", Mock(side_effect=RuntimeError("no room for a second model")))
    go(replace(options, segments=32, resume=True))
    assert exported(out).meta.steps == 32 and "no room for a second model" in caplog.text, "costs the figures alone"
    with locked(out / "lock", out), pytest.raises(BusyError, match="another run works here"):
        go(replace(options, segments=34, resume=True))


def test_a_rank_sets_its_gpu_before_it_joins_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Mock(**{"join.side_effect": TrainError("as far as this")})
    monkeypatch.setattr(pretrain_module, "rank_device", lambda found: "cuda:1")
    monkeypatch.setattr(torch.cuda, "set_device", calls.set_device)
    monkeypatch.setattr(pretrain_module, "joined", calls.join)
    with pytest.raises(TrainError, match="as far as this"):
        go(asked(tmp_path))
    assert calls.mock_calls == [call.set_device("cuda:1"), call.join("cuda:1")]


def test_a_model_of_patches_starts_from_one_of_cells(tmp_path: Path) -> None:
    """The blocks go on; each place of a patch gets a table near that of a cell, and no two are alike."""
    lines_alone = '[model]\nH_mixer = "axial"\nL_mixer = "none"\npos_encodings = "rope_2d"\n'
    go(asked(tmp_path / "cells", lines_alone))
    cells = exported(tmp_path / "cells" / "out", "undecayed", rows=True)
    later: dict[str, Any] = {"start_from": tmp_path / "cells" / "out" / "undecayed.safetensors"}
    start = Pretraining(asked(tmp_path / "b", lines_alone + "patch = 2\n", **later), "cpu", Ranks(), Clock()).training.trainer.model
    for name, tensor in start.state_dict().items():
        if name in ("tokens", "lm_head"):
            places, table = tensor.unflatten(0, (4, -1)).flatten(1), cells.state[name].flatten()
            near = torch.corrcoef(torch.cat((places, table[None])))
            assert ((near[:4, 4] > 0.65) & (near[:4, 4] < 0.95)).all() and near[0, 1] < 0.9
        else:
            assert torch.equal(tensor, cells.state[name])
    go(asked(tmp_path / "b", lines_alone + "patch = 2\n", segments=3, **later))
    assert exported(tmp_path / "b" / "out").config.patch == 2
    with pytest.raises(TrainError, match="patch = 2, but the preset has 3"):
        later = {"start_from": tmp_path / "b" / "out" / "undecayed.safetensors"}
        Pretraining(asked(tmp_path / "c", lines_alone + "patch = 3\n", **later), "cpu", Ranks(), Clock())
