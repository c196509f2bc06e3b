"""A run that was killed, stopped or saved badly goes on as if nothing had happened, or says why it cannot."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hrm_submit.cli import main
from tests.run.lab import wait_for
from tests.train.lab import DEEP, exported, finish, lines, options, start, state


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


@pytest.mark.parametrize(("more", "kills"), [pytest.param("", 1, id="nano"), pytest.param(DEEP, 2, id="deep", marks=pytest.mark.slow)])
def test_killed_anywhere_and_resumed_gives_the_same_bits(tmp_path: Path, more: str, kills: int) -> None:
    """The reference runs in this process, the killed ones in their own; the moment of a kill is drawn anew each time."""
    work = ["--segments", "200", "--log-every", "50"]
    assert main(["pretrain", *options(tmp_path / "whole", *work, preset_text=more)]) == 0
    killed = options(tmp_path / "killed", *work, "--save-every", "0.05s", preset_text=more)
    out, at, resume = tmp_path / "killed" / "out", [], []
    for _ in range(kills):
        process = start(*killed, *resume)
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
    command = options(tmp_path, "--segments", "100000", "--log-every", "5", "--save-every", "1h")
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


def test_a_full_disk_keeps_the_state_before_and_the_run_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["pretrain", *options(tmp_path, "--segments", "3")]) == 0
    before = (tmp_path / "out" / "state.pt").read_bytes()
    # Whatever is written to /dev/full meets a full disk.
    (tmp_path / "out" / ".state.pt.tmp").symlink_to("/dev/full")
    assert main(["pretrain", *options(tmp_path, "--segments", "6", "--resume")]) == 0
    assert (tmp_path / "out" / "state.pt").read_bytes() == before
    assert "could not be saved" in caplog.text and "the earlier one stays" in caplog.text
    assert exported(tmp_path / "out").meta.steps == 6
    assert [p.name for p in (tmp_path / "out").iterdir() if p.name.endswith(".tmp")] == []
