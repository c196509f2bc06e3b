"""Several ranks train as one does, over real process groups (gloo on this CPU), and none waits for a rank that is gone. A run that was
killed or stopped goes on as if nothing had happened."""

import random
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hrm_submit.cli import main
from hrm_submit.core.device import no_engine, out_of_memory
from hrm_submit.core.errors import ConfigError
from hrm_submit.train.ranks import Ranks, SharedMemoryError, joined, local_world, rank_device
from tests.run.lab import wait_for
from tests.train.lab import exported, finish, lines, options, start, state, write_data

DRIVER = str(Path(__file__).with_name("rank_driver.py"))

# AdamW and a plain model, so that rounding stays rounding; halting and exploration are in it.
TWO = """
[model]
halt_max_steps = 3
halt_exploration_prob = 0.5

[train]
optimizer = "adamw"
segments = 3
embedding_lr = 1e-3
"""


def test_two_ranks_train_as_one_does_and_one_goes_on_from_two(tmp_path: Path) -> None:
    """The same global batch on one rank and on two: the same losses, weights, rows and carried sequences, to rounding."""
    one, two = tmp_path / "one", tmp_path / "two"
    more = ["--log-every", "1", "--validate", str(write_data(tmp_path / "held", 3, "held", first=50)), "--every", "1h"]
    assert main(["pretrain", *options(one, *more, "--segments", "12", preset_text=TWO)]) == 0
    said, _ = finish(start(*options(two, *more, "--segments", "12", preset_text=TWO), ranks=2))
    assert said.count("12 segments") == 1, "one rank speaks for all"
    assert_close(one / "out", two / "out")
    finals = [exported(f / "out") for f in (one, two)]
    for name, tensor in finals[0].state.items():
        torch.testing.assert_close(finals[1].state[name], tensor, rtol=1e-4, atol=2e-5)
    assert [c.meta.card["validation"]["tasks"] for c in finals] == [3, 3]
    assert " pretrain --preset" in finals[1].meta.card["command"]
    for folder in (one, two):  # what two ranks carried, one takes over
        assert main(["pretrain", *options(folder, *more, "--segments", "20", "--resume", preset_text=TWO)]) == 0
    assert_close(one / "out", two / "out")


def assert_close(one: Path, two: Path) -> None:
    for key in ("loss", "exact", "cells"):
        ours, theirs = ([x[key] for x in lines(f) if key in x] for f in (one, two))
        assert len(ours) >= 12 and theirs == pytest.approx(ours, rel=1e-5, abs=2e-6)
    a, b = state(one), state(two)
    for part in ("model", "embedding"):
        for name, tensor in a[part].items():
            torch.testing.assert_close(b[part][name], tensor, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")
    assert a["carries"] and torch.equal(a["generator"], b["generator"])
    for length, carry in a["carries"].items():
        for name in ("steps", "halted", "inputs", "ids"):
            assert torch.equal(b["carries"][length][name], carry[name])


@pytest.mark.slow
def test_out_of_memory_on_one_rank_halves_the_batch_of_all(tmp_path: Path) -> None:
    _, error = finish(start("memory", *options(tmp_path, "--segments", "8", "--log-every", "1"), ranks=2, script=(DRIVER,)))
    assert "the batch is now 4" in error
    assert state(tmp_path / "out")["batch_size"] == 4
    assert [x["segment"] for x in lines(tmp_path / "out")] == list(range(1, 9))


def test_all_ranks_know_that_one_has_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "unable to find an engine to execute this computation"
    for ours, theirs, engine in (
        (told, [0.0, 0.0], True),
        ("can't allocate memory", [1.0, 1.0], True),
        ("can't allocate memory", [0, 0], False),
    ):
        monkeypatch.setattr(Ranks, "most", lambda self, *values, theirs=theirs: [max(pair) for pair in zip(values, theirs, strict=True)])
        with pytest.raises(SharedMemoryError) as caught, Ranks(1, 2).together():
            raise RuntimeError(ours)
        assert no_engine(caught.value) == engine and out_of_memory(caught.value)


def test_a_rank_that_is_gone_ends_the_other(tmp_path: Path) -> None:
    """Without torchrun, which would end it: the other must find out by itself, well before the time-out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    arguments = ("vanish", *options(tmp_path, "--segments", "100000"))
    processes = [start(*arguments, script=(DRIVER,), environment={**group, "RANK": r, "LOCAL_RANK": r}) for r in "01"]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert all(process.returncode != 0 for process in processes)
    assert processes[0].returncode == 2 and "rank 0 of 2 lost the others" in errors[0].splitlines()[-1] and "Traceback" not in errors[0]


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda:1", "cpu:gloo,cuda:nccl")])
def test_tensors_on_gpus_travel_by_nccl(monkeypatch: pytest.MonkeyPatch, device: str, backend: str) -> None:
    calls = list[str]()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.init_process_group", lambda name, **_: calls.append(name))
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: calls.append("left"))
    with pytest.raises(KeyboardInterrupt), joined(device) as ranks:
        assert ranks == Ranks(1, 2)
        raise KeyboardInterrupt
    assert calls == [backend, "left"]


def test_ranks_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert local_world() == 2
    assert rank_device(["cpu"]) == "cpu"
    assert rank_device(["cuda:0", "cuda:3"]) == "cuda:3"
    with pytest.raises(ConfigError, match="2 ranks on this machine, but only cuda:0"):
        rank_device(["cuda:0"])


DEEP = """
[model]
halt_max_steps = 3
halt_exploration_prob = 0.5
continue_target = true
embedding = "augmented"

[train]
optimizer = "adam_atan2"
segments = 3
translate = true
"""
"""All that is carried from segment to segment: states, and halting with exploration."""


def tensors(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in nested dictionaries and lists, by its path."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return {path: tensor for key, item in inner for path, tensor in tensors(item, f"{name}/{key}").items()}


def assert_same_training(a: Path, b: Path) -> None:
    """Weights, moments, carried states and random generators, to the last bit; and the exports."""
    ours, theirs = tensors(state(a)), tensors(state(b))
    assert ours.keys() == theirs.keys() and len(ours) > 30
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]
    for name in ("undecayed", "final"):
        left, right = (exported(out, name).state for out in (a, b))
        assert all(torch.equal(left[key], right[key]) for key in left)


SAVING_OFTEN = (
    "-c",
    "import sys; from hrm_submit import cli; from hrm_submit.train import pretrain; pretrain.SAVE_EVERY = 0.05; "
    "sys.exit(cli.main(['pretrain', *sys.argv[1:]]))",
)


@pytest.mark.parametrize(("more", "kills"), [pytest.param("", 1, id="nano"), pytest.param(DEEP, 2, id="deep", marks=pytest.mark.slow)])
def test_killed_anywhere_and_resumed_gives_the_same_bits(tmp_path: Path, more: str, kills: int) -> None:
    """The reference runs in this process, the killed ones in their own; the moment of a kill is drawn anew each time."""
    work = ["--segments", "200", "--log-every", "50"]
    assert main(["pretrain", *options(tmp_path / "whole", *work, preset_text=more)]) == 0
    killed = options(tmp_path / "killed", *work, preset_text=more)
    out, at, resume = tmp_path / "killed" / "out", [], []
    for _ in range(kills):
        process = start(*killed, *resume, script=SAVING_OFTEN)
        seen = (out / "state.pt").stat().st_mtime_ns if resume else 0
        wait_for(lambda seen=seen: (out / "state.pt").exists() and (out / "state.pt").stat().st_mtime_ns != seen, process)  # type: ignore[misc]
        time.sleep(random.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it had ended before it was killed: too little to do"
        at.append(state(out)["segment"])
        resume = ["--resume"]
    assert 0 < at[0] < 200 and at == sorted(at)
    finish(start(*killed, "--resume"))
    assert_same_training(tmp_path / "whole" / "out", out)
    assert [line["segment"] for line in lines(out) if line["segment"] == 200] == [200]
    assert [line["segment"] for line in lines(out)] == sorted({line["segment"] for line in lines(out)}), "no line comes twice"


def test_a_signal_saves_and_exits_and_the_run_goes_on(tmp_path: Path) -> None:
    command = options(tmp_path, "--segments", "100000", "--log-every", "5")
    out = tmp_path / "out"
    process = start(*command)
    wait_for(lambda: (out / "metrics.jsonl").exists(), process)
    process.send_signal(signal.SIGTERM)
    said, _ = finish(process)
    done = state(out)["segment"]
    assert done >= 5 and f"{done} segments" in said and "--resume" in said
    assert not (out / "final.safetensors").exists(), "the weights are not decayed"
    assert exported(out, "undecayed").meta.steps == done
    assert main(["pretrain", *options(tmp_path, "--resume", "--segments", str(done + 7), "--log-every", "1")]) == 0
    assert [line["segment"] for line in lines(out)][-7:] == list(range(done + 1, done + 8))
    assert (out / "final.safetensors").exists()
