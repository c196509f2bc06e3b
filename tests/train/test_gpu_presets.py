"""The presets for GPUs: they train, go on and solve, in steps that a CPU can take; and by the plan they fit the cards of the machines."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hrm_submit.cli import main
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.runtime import card_presets
from hrm_submit.model.weights import load_checkpoint
from hrm_submit.run.cost import training_bytes
from tests.train.lab import write_data

GPU_PRESETS = ("gpu-small", "gpu-base")
from_2_9 = pytest.mark.skipif(torch.__version__.startswith("2.8."), reason="cannot pretend a GPU; rms_norm is several launches")
SMALL_STEPS = """
[train]
batch_size = 1
augmentations = 4
[ttt]
batch_size = 1
augmentations = 4
[vote]
views = 1
batch_size = 2
act_steps = 2
"""
REFUSED = """
import torch
from tests.pretended_gpu import pretended_gpu

with pretended_gpu():
    here, there = torch.zeros(2, 3, 4, 5, 6), torch.zeros(2, 3, 4, 5, 6, device="cuda:0")
    for attempt in (
        lambda: there.sum().item(),
        lambda: there.nonzero(),
        lambda: there[there > 0],
        lambda: there.cpu(),
        lambda: here.to("cuda:0"),
        lambda: here + there,
        lambda: torch.nn.functional.scaled_dot_product_attention(there, there, there),
    ):
        try:
            attempt()
        except RuntimeError:
            print("refused")
"""


@pytest.mark.parametrize("name", ["gpu-small", pytest.param("gpu-base", marks=pytest.mark.slow)])
def test_it_trains_goes_on_and_solves(name: str, tmp_path: Path) -> None:
    data, out = write_data(tmp_path, 1), tmp_path / "out"
    (tmp_path / "steps.toml").write_text(SMALL_STEPS)
    preset = ["--preset", f"{name},{tmp_path / 'steps.toml'}", "--devices", "cpu"]
    train = ["pretrain", *preset, "--data", str(data), "--out", str(out)]
    assert main([*train, "--segments", "1"]) == 0
    assert main([*train, "--segments", "2", "--resume"]) == 0
    final = load_checkpoint(out / "final.safetensors")
    assert final.config == load_preset(name).model and final.meta.steps == 2
    submission = tmp_path / "submission.json"
    solve = ["solve", *preset, "--checkpoint", str(out / "final.safetensors"), "--challenges", str(data), "--output", str(submission)]
    assert main([*solve, "--segments-per-task", "1"]) == 0
    assert main(["validate", "--submission", str(submission), "--challenges", str(data)]) == 0


@pytest.mark.parametrize(("machine", "name"), [(p, n) for p, n in itertools.product(card_presets(), GPU_PRESETS)])
def test_its_largest_batches_fit_the_cards_that_prefer_it(machine: str, name: str) -> None:
    card, preset = card_presets()[machine], load_preset(f"{name},{machine}")
    if name not in card.weights.split():
        assert (machine, name) == ("t4x2", "gpu-base"), "every other card has room for both"
        return
    room = 0.9 * card.memory_gib * 2**30
    for side in (10, 20, 30):
        train = min(preset.train.batch_size, preset.train.batch_tokens // side**2)
        for batch in (train, preset.ttt.batch_size):
            assert training_bytes(preset.model, side * side, batch, element=torch.float16.itemsize, fused_attention=True) < room


@from_2_9
@pytest.mark.parametrize("names", ["gpu-small", "nano gpu-base", pytest.param("gpu-small,codes nano-2d hrm-7m", marks=pytest.mark.slow)])
def test_on_a_pretended_gpu_nothing_waits_and_memory_is_as_planned(names: str) -> None:
    """Each raises where it would wait, mix devices, or attend without a fused kernel; a GPU outruns the launches of more than some hundred
    operations a segment."""
    done = subprocess.run([sys.executable, "-m", "tests.pretended_gpu", *names.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for preset, dtype, found in map(json.loads, done.stdout.splitlines()):
        assert found["held"] < found["planned"] < 2.5 * found["held"], (preset, dtype)
        if preset == "gpu-small":
            assert found["single"] <= 300 and found["carried"] <= 300, (dtype, found)


@from_2_9
def test_a_worker_of_a_pretended_card_compares_engines_and_solves() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.pretended_gpu", "worker"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["places"] == ["cuda:0", "cuda:1"] * 2
    formats = [["plain", "float32", ""], ["plain", "bfloat16", ""], ["plain", "float16", ""]]
    assert found["tried"] == [*formats, ["compile", "float16", ""], ["reduce-overhead", "float16", ""]]
    expected = {"device": "cuda:0", "dtype": "float16", "attention": "sdpa", "kernels": "torch", "engine": "reduce-overhead"}
    assert found["runs"].items() >= expected.items() and (found["segments"], found["final"]) == (2, True)


def test_a_pretended_gpu_refuses_what_a_real_one_would_wait_for_or_write_out() -> None:
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["refused"] * 7), done.stderr
