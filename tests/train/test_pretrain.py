"""Pre-training as a whole: what it leaves behind, that it ends decayed and on time, and what it survives."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from hrm_submit.arc.challenges import load_challenges
from hrm_submit.config.preset_files import layer
from hrm_submit.core.clock import Clock
from hrm_submit.core.errors import TrainError
from hrm_submit.corpora.solutions import load_solutions
from hrm_submit.model import weights as weights_module
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import Checkpoint, build, load_checkpoint
from hrm_submit.train import metrics
from hrm_submit.train.metrics import MetricsLog
from hrm_submit.train.pretrain import Pretraining, pretrain
from hrm_submit.train.ranks import Ranks
from hrm_submit.train.request import Held, PretrainRequest
from tests.train.lab import TickingClock, lines, request, state, write_data

FLAT = "[train]\ndecay_fraction = 0.0\n"
NO_ROOM = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 640 bytes"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing one takes longer than most runs here."""
    monkeypatch.setattr(metrics, "plot", lambda *paths: None)


def go(asked: PretrainRequest, clock: Clock | None = None) -> str:
    return pretrain(asked, Ranks(), clock or Clock())


def export(folder: Path, name: str = "final", rows: bool = False) -> Checkpoint:
    return load_checkpoint(folder / "out" / f"{name}.safetensors", rows=rows)


def same(a: Checkpoint, b: Checkpoint) -> bool:
    return all(torch.equal(a.state[name], b.state[name]) for name in a.state)


def test_undecayed_are_the_weights_before_the_rate_began_to_fall(tmp_path: Path) -> None:
    """The second half decays: after six of ten segments, the last of them at progress 0.5, a run that never decays is as far."""
    go(request(tmp_path / "a"))
    go(request(tmp_path / "b", FLAT, segments=6))
    assert export(tmp_path / "a", "undecayed").meta.steps == 6
    assert same(export(tmp_path / "a", "undecayed"), export(tmp_path / "b", "final"))
    assert not same(export(tmp_path / "a", "undecayed"), export(tmp_path / "a", "final"))
    assert [x["rate"] for x in lines(tmp_path / "a" / "out")] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_without_decay_both_exports_are_the_last_weights(tmp_path: Path) -> None:
    go(request(tmp_path, FLAT))
    assert same(export(tmp_path, "undecayed"), export(tmp_path, "final"))


def test_rows_go_on_with_their_tasks(tmp_path: Path) -> None:
    """A second run, on other tasks in another order, gives each task that the first knew its row, and the mean to the others."""
    go(request(tmp_path / "a"))
    undecayed = export(tmp_path / "a", "undecayed", rows=True)
    assert undecayed.tables.rows is not None and export(tmp_path / "a", rows=True).tables.rows is None
    assert undecayed.meta.row_ids == tuple(f"little/task{k:02d}" for k in range(4))
    later = request(
        tmp_path / "b", data=write_data(tmp_path / "b", 4, first=2), start_from=tmp_path / "a" / "out" / "undecayed.safetensors"
    )
    run = Pretraining(later, Ranks(), Clock())
    rows = run.trainer.embedding.rows
    assert torch.equal(rows[:2], undecayed.tables.rows[2:4]) and not torch.equal(rows[0], rows[1])
    assert torch.equal(rows[2:], undecayed.tables.mean_row.expand(2, -1))
    assert all(torch.equal(run.trainer.model.state_dict()[name], undecayed.state[name]) for name in undecayed.state)
    go(later)
    meta = export(tmp_path / "b").meta
    assert meta.steps == 10 and meta.card["from"]["steps"] == 6 and meta.card["from"]["data"] == ["little"]
    assert lines(tmp_path / "b" / "out")[0]["rate"] == pytest.approx(0.2), "a short warm-up"


def test_weights_without_convolutions_go_on_in_a_model_that_has_them(tmp_path: Path) -> None:
    """They start as the identity, so that nothing that was learnt is lost; from there they are trained as the rest is."""
    go(request(tmp_path / "a"))
    start = tmp_path / "a" / "out" / "undecayed.safetensors"
    convolving = replace(request(tmp_path / "b", start_from=start), preset=layer(request(tmp_path).preset, {"model": {"conv_size": 3}}))
    run = Pretraining(convolving, Ranks(), Clock())
    plain, _ = build(load_checkpoint(start))
    tokens, positions, row = torch.arange(16).view(1, 16) % 12, torch.arange(16), torch.ones(1, plain.cfg.puzzle_emb_ndim)
    with torch.no_grad():
        ours, theirs = (m(m.initial_carry(1, 16), tokens, row, positions)[1] for m in (run.trainer.model, plain))
    torch.testing.assert_close(ours, theirs)
    go(convolving)
    moved = [tensor for name, tensor in export(tmp_path / "b").state.items() if name.endswith(".conv")]
    assert moved and all((filters[:, 0, 0, 0] != 0).any() for filters in moved)
    back = request(tmp_path / "c", start_from=tmp_path / "b" / "out" / "undecayed.safetensors")
    with pytest.raises(TrainError, match="conv_size = 3, but the preset has 0"):
        go(back)


def test_what_weights_were_trained_on_stays_in_their_metadata(tmp_path: Path) -> None:
    """Else a leak could be washed out by going on from it, or by a break."""
    go(request(tmp_path / "a"))
    start = tmp_path / "a" / "out" / "undecayed.safetensors"
    meta = request(tmp_path).meta
    later = request(tmp_path / "b", start_from=start, segments=4, meta=type(meta)(data=("new",), hashes=("11",)))
    go(later)
    assert export(tmp_path / "b").meta.hashes == ("00", "11") and export(tmp_path / "b").meta.data == ("new", "little")
    again = request(tmp_path / "b", segments=8, resume=True, meta=later.meta)
    go(again)
    assert export(tmp_path / "b").meta.hashes == ("00", "11") and export(tmp_path / "b").meta.card["from"]["steps"] == 6


def test_a_run_by_time_ends_in_time_and_decayed(tmp_path: Path) -> None:
    clock = TickingClock(0.05)
    said = go(request(tmp_path, budget=60.0, save_every=10.0), clock)
    assert clock.now <= 60.0 and clock.now > 45.0
    rates = [x["rate"] for x in lines(tmp_path / "out")]
    assert len(rates) > 100 and rates[-1] <= 0.02 and max(rates) == 1.0
    half = [x["rate"] for x in lines(tmp_path / "out") if x["progress"] <= 0.5]
    assert half[5:] == pytest.approx([1.0] * (len(half) - 5), abs=2e-3)
    assert "decayed" in said
    steps = [export(tmp_path, name).meta.steps for name in ("undecayed", "final")]
    assert 0.4 < steps[0] / steps[1] < 0.6 and steps[1] == len(rates)


def stop_after(segment: int, monkeypatch: pytest.MonkeyPatch, number: signal.Signals = signal.SIGTERM) -> None:
    """Send this process a signal when that segment is done."""
    add = MetricsLog.add

    def added(self: MetricsLog, report: Any, *rest: Any) -> None:
        add(self, report, *rest)
        if report.segment == segment:
            signal.raise_signal(number)

    monkeypatch.setattr(MetricsLog, "add", added)


def test_turns_by_time_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(60, patch)
        first = TickingClock(0.05)
        assert "--resume" in go(request(tmp_path, budget=60.0), first)
    spent, reached = state(tmp_path / "out")["seconds"], lines(tmp_path / "out")[-1]["progress"]
    assert 0.05 < reached < 0.4 and export(tmp_path, "undecayed").meta.steps == 61
    second = TickingClock(0.05)
    go(request(tmp_path, budget=60.0, resume=True), second)
    assert spent + second.now <= 60.0
    after = next(x for x in lines(tmp_path / "out") if x["segment"] == 62)
    assert reached <= after["progress"] < reached + 0.1
    assert lines(tmp_path / "out")[-1]["rate"] <= 0.02 and export(tmp_path).meta.seconds > spent


@pytest.mark.parametrize("ask", [{"budget": 1.0}, {"segments": 5}])
def test_a_turn_must_ask_for_more_than_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: dict[str, float]) -> None:
    with monkeypatch.context() as patch:
        stop_after(6, patch, signal.SIGINT)
        go(request(tmp_path, budget=600.0), TickingClock(0.1))
    with pytest.raises(TrainError, match=r"7 segments in .* already"):
        go(request(tmp_path, resume=True, **ask), TickingClock())
    assert not (tmp_path / "out" / "final.safetensors").exists()


def test_a_finished_run_resumed_changes_nothing(tmp_path: Path) -> None:
    go(request(tmp_path))
    before = export(tmp_path)
    assert "nothing was left to do" in go(request(tmp_path, resume=True))
    assert same(export(tmp_path), before) and len(lines(tmp_path / "out")) == 10


def failing_forward(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int, int], bool]) -> None:
    """Memory runs out in the forwards, counted from 1, for which `fails(number, batch size)`."""
    forward, calls = HRM.forward, [0]

    def limited(self: HRM, carry: Any, tokens: torch.Tensor, *rest: Any) -> Any:
        calls[0] += 1
        if fails(calls[0], tokens.shape[0]):
            raise RuntimeError(NO_ROOM)
        return forward(self, carry, tokens, *rest)

    monkeypatch.setattr(HRM, "forward", limited)


def test_out_of_memory_halves_the_batch_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing_forward(monkeypatch, lambda number, size: number > 3 and size > 2)
    go(request(tmp_path))
    assert [r.getMessage() for r in caplog.records if "memory" in r.getMessage()] == [
        "out of memory: the batch is now 4",
        "out of memory: the batch is now 2",
    ]
    assert [x["segment"] for x in lines(tmp_path / "out")] == list(range(1, 11)) and state(tmp_path / "out")["batch_size"] == 2
    assert all(math.isfinite(x["loss"]) for x in lines(tmp_path / "out"))


def test_memory_for_not_even_one_example_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_forward(monkeypatch, lambda number, size: True)
    with pytest.raises(TrainError, match="out of memory with a batch of 1"):
        go(request(tmp_path))


def test_another_error_is_no_reason_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(HRM, "forward", broken)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="a bug"):
        go(request(tmp_path))
    assert threading.active_count() == before, "the thread that builds batches has ended"


def test_no_thread_is_left(tmp_path: Path) -> None:
    before = threading.active_count()
    go(request(tmp_path))
    assert threading.active_count() == before


def test_a_full_disk_keeps_the_export_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    go(request(tmp_path))
    path = tmp_path / "out" / "final.safetensors"
    before = load_checkpoint(path)

    def full(tensors: Any, file: Path, metadata: Any) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_module, "save_file", full)
    go(request(tmp_path, segments=40, resume=True))
    assert load_checkpoint(path).meta == before.meta and same(load_checkpoint(path), before)
    assert "No space left" in caplog.text and "the earlier file stays" in caplog.text
    assert not list((tmp_path / "out").rglob("*.tmp"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_reduced_precision_trains_and_another_one_goes_on(tmp_path: Path, dtype: str) -> None:
    """float16 with its loss scaled; a later turn may be on a device that knows another format."""
    text = '[device]\ndtype = "{}"\n[train]\nlr = 1e-2\nwarmup_steps = 2\n[model]\nhalt_max_steps = 2\n'
    more = text.format(dtype) + "[ttt]\n"
    go(request(tmp_path, more.replace("[train]\n", "[train]\nsegments = 2\n"), segments=60))
    losses = [x["loss"] for x in lines(tmp_path / "out")]
    assert all(math.isfinite(x) for x in losses) and sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert ("scale" in state(tmp_path / "out")["optimizers"]["scaler"]) == (dtype == "float16")
    assert all(t.dtype == torch.float32 for t in export(tmp_path).state.values())
    other = text.format("bfloat16" if dtype == "float16" else "float16")
    go(request(tmp_path, other.replace("[train]\n", "[train]\nsegments = 2\n"), segments=64, resume=True))
    assert all(math.isfinite(x["loss"]) for x in lines(tmp_path / "out")) and len(lines(tmp_path / "out")) == 64


def test_a_compiler_that_fails_costs_a_line_and_no_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(function: Any, *args: Any, **options: Any) -> Any:
        def fail(*a: Any, **o: Any) -> Any:
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    go(request(tmp_path / "a", "[device]\ncompile = true\n"))
    go(request(tmp_path / "b", "[device]\nkernels = 'torch'\n"))
    assert caplog.text.count("No working C++ compiler found") == 1
    assert same(export(tmp_path / "a"), export(tmp_path / "b"))


def test_validation_measures_the_weights_that_final_has(tmp_path: Path) -> None:
    """The held-out figures by hand: votes of the exported checkpoint itself, loaded anew."""
    from hrm_submit.train.validate import validate

    data = write_data(tmp_path / "held", 3, first=50)
    tasks, solutions = load_challenges(data), load_solutions(data.with_name("little_solutions.json"))
    asked = request(tmp_path, "[train]\nlr = 1e-2\n", segments=30, held=Held("held", tasks, solutions, every=1e9))
    go(asked)
    (line,) = [x for x in lines(tmp_path / "out") if "validation_pass@2" in x]
    card = export(tmp_path).meta.card
    model, embedding = build(export(tmp_path), attention="math")
    result = validate(model, embedding, tasks, solutions, asked.preset, lambda _: 0)
    assert result is not None and line["validation_pass@2"] == result["pass@2"] and line["validation_tasks"] == 3
    assert card["validation"]["pass@2"] == result["pass@2"] and card["validation"]["data"] == "held"
    assert card["machine"] == "a small one" and line["segment"] == 30


def test_validations_come_as_often_as_asked_and_stop_at_the_deadline(tmp_path: Path) -> None:
    data = write_data(tmp_path / "held", 3, first=50)
    held = Held("held", load_challenges(data), load_solutions(data.with_name("little_solutions.json")), every=10.0)
    clock = TickingClock(0.05)
    go(request(tmp_path, budget=40.0, held=held), clock)
    checks = [x for x in lines(tmp_path / "out") if "validation_pass@2" in x]
    assert 3 <= len(checks) <= 5 and clock.now <= 40.0
    assert all(b["seconds"] - a["seconds"] >= 10.0 for a, b in pairwise(checks[:-1]))
