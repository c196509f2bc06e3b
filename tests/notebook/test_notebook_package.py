"""The notebook over the wheel built from this tree: what really breaks, and what the package then does with the rest of the time."""

import json
from pathlib import Path

import pytest
from kaggle_kit.wheels import build_wheel

from hrm_submit.record.folder import read_run
from tests.events import told
from tests.notebook.notebook_lab import lay_out, run
from tests.run.lab import recolour, tiny_preset
from tests.shared import made_once, write_weights

SECONDS = 120.0
"""Of the session; no run needs them all, as each task ends after a few segments."""


TWO = {name: recolour(name, k) for k, name in enumerate(("bbbb0001", "bbbb0002"))}

BROKEN_GPU = """
import os, sys

if any("hrm_submit" in word or "spawn_main" in word for word in sys.orig_argv):
    import torch

    def fail(*_):
        raise RuntimeError("CUDA error: the driver is gone")

    cuda, accelerator = torch.cuda, torch.accelerator
    cuda.device_count = lambda: int(os.environ.get("CUDA_VISIBLE_DEVICES") != "")
    cuda.is_available = lambda: cuda.device_count() > 0
    # Optimizers ask a GPU that they see, wherever they compute.
    torch.backends.cuda.is_built, cuda.is_current_stream_capturing = (lambda: True), fail
    accelerator.current_accelerator = lambda **_: torch.device("cuda") if cuda.is_available() else None
    accelerator.current_stream = fail
    if ANSWERS:  # the driver still says what the card is, but nothing runs on it
        cuda.get_device_capability, cuda.get_arch_list = (lambda *_: (8, 0)), (lambda: ["sm_80"])
        cuda.get_device_name, cuda.is_bf16_supported = (lambda *_: "broken"), (lambda *_: True)
    cuda._lazy_init = cuda.init = fail
"""
"""Makes torch report a GPU whose driver fails at the first use."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next(made_once(tmp_path_factory, "wheel", build_wheel).glob("*.whl"))


def brief(folder: Path) -> dict[str, str]:
    """What makes the notebook's tasks end early."""
    preset = folder / "brief.toml"
    preset.write_text("[ttt]\nmax_segments = 5\n[budget]\nrestart_least = 10.0\n[device]\nworkers = 1\n")
    return {"HRM_PRESET": str(preset)}


def checkpoint(folder: Path) -> Path:
    return write_weights(folder / "tiny.safetensors", tiny_preset(folder).model)


def test_rehearsal_with_a_checkpoint(tmp_path: Path, wheel: Path) -> None:
    result = run(tmp_path, lay_out(tmp_path, [wheel, checkpoint(tmp_path)], tasks=TWO), "rehearse", SECONDS, TWO, brief(tmp_path))
    assert result.outcome.status == 0 and not result.faults and not result.degraded, result.output
    record = read_run(result.tree.working / "run")
    assert "run_end" in {event.kind for event in record.events} and "tiny.safetensors" in json.dumps(record.run)
    assert all(task in (result.tree.working / "report.html").read_text() for task in TWO)
    (shown,) = result.displayed
    assert "2 of 2 tasks answered by the model" in shown and shown.count('class="grid"') >= 4


def test_scored_rerun_with_a_truncated_checkpoint_goes_on_without_and_merges_what_another_solver_says(tmp_path: Path, wheel: Path) -> None:
    path, other = checkpoint(tmp_path), tmp_path / "other.json"
    path.write_bytes(path.read_bytes()[:-1000])
    other.write_text('{"bbbb0001": [{"attempt_1": [[9, 9, 9]], "attempt_2": [[9, 9, 9]]}], "unknown": 5}')
    tree = lay_out(tmp_path, [wheel, path, other], tasks=TWO)
    result = run(tmp_path, tree, "scored", SECONDS, TWO, {"HRM_MERGE": "other.json", **brief(tmp_path)})
    assert result.outcome.status == 0 and not result.faults
    assert "2 tasks, 2 test outputs; first attempts:" in result.output
    assert [[9, 9, 9]] in result.submission["bbbb0001"][0].values() and set(result.submission) == set(TWO)
    problems = result.degraded.splitlines()
    told = ["tiny.safetensors on auto: RuntimeError: exit status 2" in problem for problem in problems]
    assert told == [True, True], "with the preset and without, before the package's own weights have it"
    assert "run_end" in {event.kind for event in read_run(result.tree.working / "run").events}


@pytest.mark.parametrize("answers", [pytest.param(False, id="silent"), pytest.param(True, id="answers", marks=pytest.mark.slow)])
def test_scored_rerun_with_a_broken_gpu_ends_on_the_cpu(tmp_path: Path, wheel: Path, answers: bool) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(f"ANSWERS = {answers}\n{BROKEN_GPU}")
    tree, variables = lay_out(tmp_path, [wheel], tasks=TWO), {"PYTHONPATH": str(hook), **brief(tmp_path)}
    result = run(tmp_path, tree, "scored", SECONDS, TWO, variables)
    assert result.outcome.status == 0 and not result.faults, result.output
    assert "the driver is gone" in result.output
    assert "cpu" in {event["device"] for event in told(read_run(result.tree.working / "run"), "worker_start") if event.get("ready")}
