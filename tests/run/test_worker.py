"""A worker's side of the conversation, in this process: a pipe filled beforehand, and what comes back."""

import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hrm_submit.config.runtime import Runtime
from hrm_submit.config.schema import Preset
from hrm_submit.model.compiled import compiling_in_turn
from hrm_submit.model.packaged import EnsembleMember
from hrm_submit.record.events import EngineChosen
from hrm_submit.run import worker as worker_module
from hrm_submit.run.protocol import Assignment, Channel, Failed, Ready, WorkerSpec
from hrm_submit.run.worker import worker_main
from hrm_submit.solver.messages import Alive, Answer, Progress
from tests.run.lab import recolour, tiny_preset
from tests.shared import write_weights
from tests.solver.sessions import Faulty, stand_in


def converse(spec: WorkerSpec, *assignments: Assignment, status: int | None = None) -> list[Any]:
    """All that a worker in this process says to these assignments, until it is told to end or ends itself with `status`."""
    ours, theirs = (Channel(end, waits=True) for end in socket.socketpair())
    for assignment in (*assignments, None):
        ours.send(assignment)
    with pytest.raises(SystemExit, match=f"^{status}$") if status else nullcontext():
        worker_main(theirs, spec)
    theirs.close()
    said = []
    with suppress(EOFError, ConnectionResetError):
        while True:
            said.append(ours.receive())
    ours.close()
    return said


def on_cpu(preset: Preset, checkpoint: Path | None = None, **more: Any) -> WorkerSpec:
    return WorkerSpec(0, "cpu", (EnsembleMember("tiny", preset, checkpoint),), 0, **more)


def work(task_id: str = "t", segments: int = 6, seed: int = 0) -> Assignment:
    return Assignment(recolour(task_id, seed), None, segments)


def finals(said: list[Any]) -> dict[str, Any]:
    last = [m for m in said if isinstance(m, Answer) and m.final]
    return {m.task: [[(c.grid.tolist(), c.votes, c.score) for c in output] for output in m.outputs] for m in last}


def test_ready_then_each_task_to_its_final_answer(preset: Preset, tmp_path: Path) -> None:
    said = converse(on_cpu(preset), work("a"), work("b", seed=1))
    assert isinstance(said[0], Ready)
    assert said[0].runtime["device"] == "cpu" and said[0].runtime["dtype"] == "float32"
    assert (said[0].runtime["batch_size"], said[0].runtime["vote_batch_size"]) == (16, 16)
    assert [m.task for m in said[1:]] == sorted(m.task for m in said[1:]), "one task after the other"
    assert set(finals(said)) == {"a", "b"}
    assert all(m.loss > 0 for m in said if isinstance(m, Progress)) and not any(isinstance(m, Alive) for m in said)
    from_file = converse(on_cpu(preset, write_weights(tmp_path / "w.safetensors", preset.model, seed=99)), work("a"))
    assert finals(from_file)["a"] != finals(said)["a"], "weights are where tasks start from"


@pytest.mark.parametrize("refused", [False, True])
def test_raw_votes_of_each_training_are_written_and_a_disk_that_refuses_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, refused: bool
) -> None:
    raw = tmp_path / "raw"
    if refused:
        raw.write_text("a file where the folder should be")
    spec = on_cpu(tiny_preset(tmp_path, "[vote]\nsave_raw = true\n"), raw=raw)
    said = converse(spec, work("a"), replace(work("a"), restart=1))
    assert {type(m).__name__ for m in said} == {"Ready", "Progress", "Answer"} and sum(isinstance(m, Answer) and m.final for m in said) == 2
    if refused:
        assert [m.split(":")[0] for m in caplog.messages if "raw predictions are not kept" in m] == ["task a"] * 2
    else:
        assert sorted(p.name for p in raw.iterdir()) == ["a.npz", "a.restart1.npz"], "and none of warming up"


def test_without_a_supervisor_it_ends(preset: Preset) -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    worker_main(Channel(theirs, waits=True), on_cpu(preset))


NO_ENGINE = "GET was unable to find an engine to execute this computation"


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[Faulty]:
    monkeypatch.setattr(worker_module, "SIGN_OF_LIFE_SECONDS", 1e9)  # however busy the machine is
    return stand_in(monkeypatch)


@pytest.mark.parametrize(
    "fault", [ValueError("no\nsecond line"), OSError(5, "Input/output error"), RuntimeError("bad kernel"), AssertionError()]
)
def test_a_fault_of_one_task_is_told_in_a_line_and_the_worker_goes_on(
    preset: Preset, faulty: type[Faulty], fault: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    faulty.faults = {"a": fault}
    _, failed, after = converse(on_cpu(preset), work("a"), work("b"))
    assert isinstance(failed, Failed) and failed.task == "a" and type(fault).__name__ in failed.fault
    assert "\n" not in failed.fault and "sessions.py:" in failed.fault
    assert isinstance(after, Answer) and after.task == "b"
    assert "Traceback" not in capfd.readouterr().err


def test_memory_that_never_suffices_fails_the_task(preset: Preset, faulty: type[Faulty]) -> None:
    faulty.most = 0
    *_, failed = converse(on_cpu(preset), work("a"))
    assert isinstance(failed, Failed) and failed.fault.startswith("MemoryError") and failed.memory and not failed.fatal
    assert [size for _, size, _ in faulty.batches] == [16, 8, 4, 2]


@pytest.mark.parametrize("fault", ["CUDA error: an illegal memory access was encountered", NO_ENGINE])
def test_a_gpu_that_computes_no_more_ends_the_process_after_its_last_words(
    preset: Preset, faulty: type[Faulty], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(worker_module.os, "_exit", sys.exit)
    monkeypatch.setattr(torch.backends.cudnn, "enabled", True)
    faulty.faults = {"a": RuntimeError(fault)}
    said = converse(on_cpu(preset), work("a"), work("b"), status=3)
    assert isinstance(said[-1], Failed) and fault in said[-1].fault and said[-1].fatal
    assert len(said) == (4 if fault == NO_ENGINE else 2), "the next task was not begun"


def test_training_gives_a_sign_of_life_at_every_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However rarely a task is evaluated, a supervisor that waits for signs must get them."""
    monkeypatch.setattr("hrm_submit.solver.session.REPORT_EVERY", 1.0)
    rare = tiny_preset(tmp_path, "[budget]\nhang_seconds = 1e-9\n[ttt]\nfirst_vote = 1.0\n")
    said = converse(on_cpu(rare), work("a", segments=9))
    assert [type(m) for m in said[1:]] == [Alive] * 8 + [Progress, Alive, Answer], "and before the vote"


def test_a_worker_without_weights_tells_the_supervisor_so(preset: Preset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = converse(on_cpu(preset, tmp_path / "gone.safetensors"), work("a"), status=1)
    assert said == [Failed("", f"{tmp_path / 'gone.safetensors'}: no such file", fatal=True)] and not caplog.records


def test_a_device_that_cannot_compute_is_found_out_before_it_is_given_a_task(
    preset: Preset, faulty: type[Faulty], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Faulty) -> Iterator[Any]:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
        yield

    monkeypatch.setattr(faulty, "run", refuse)
    assert converse(on_cpu(preset), work("a"), status=1) == [], "not even Ready"
    assert "no kernel image" in caplog.text


@pytest.mark.parametrize(("sharing", "free", "most"), [(1, 10, 10), (4, 10, 3), (4, 2, 2)])
def test_workers_that_start_together_do_not_each_count_on_the_whole_card(
    preset: Preset, monkeypatch: pytest.MonkeyPatch, sharing: int, free: int, most: int
) -> None:
    """Of 12 GiB: `most` are one worker's, however much was free when it looked."""
    seen: list[int] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * 2**30, 12 * 2**30))
    monkeypatch.setattr(worker_module, "batch_that_fits", lambda free, *args, **options: seen.append(free) or 16)
    runtime = Runtime("cuda:0", "bfloat16", "sdpa", "torch", False, 1)
    spec = replace(on_cpu(preset), device="cuda:0", sharing=sharing)
    assert worker_module._with_room(spec, runtime).preset == preset and seen == [most * 2**30]


def test_a_worker_that_waits_for_the_compiler_gives_signs_of_life(
    preset: Preset, faulty: type[Faulty], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(worker_module, "WAIT_SECONDS", 0.01)
    worker, other = worker_module.Worker(on_cpu(preset)), compiling_in_turn()
    other.__enter__()
    said = worker._warm_up(work("a"), compiled=True)
    assert [type(next(said)) for _ in range(5)] == [Alive] * 5, "another process compiles for as long as it likes"
    other.__exit__(None, None, None)
    assert [type(m) for m in said] == [Alive] * 2, "one model, and the end"


def test_an_engine_is_compared_taken_over_and_given_up(preset: Preset, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", lambda *args, **options: refuse)
    preset = replace(preset, device=replace(preset.device, kernels="torch"))
    expected = finals(converse(on_cpu(preset), work("a")))
    said = converse(on_cpu(preset), replace(work("a"), compare_seconds=60.0))
    (found,) = [m for m in said if isinstance(m, EngineChosen)]
    assert (found.card, found.engine, found.dtype) == ("cpu", "plain", "float32") and "it failed" in str(found.reason)
    assert finals(said) == expected
    told = EngineChosen(card="cpu", engine="reduce-overhead", dtype="float32", reason="")
    said = converse(on_cpu(preset), replace(work("a"), engine=told))
    (fallen,) = [m for m in said if isinstance(m, EngineChosen)]
    assert (fallen.engine, fallen.reason) == ("plain", "reduce-overhead failed in a") and said.index(fallen) < len(said) - 1
    assert finals(said) == expected
