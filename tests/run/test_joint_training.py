"""Joint training before each task's own: who takes part until when, what comes of it, and what later workers start from."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from hrm_submit.core.errors import ConfigError
from hrm_submit.model.weights import CheckpointMeta, build, load_checkpoint, save_checkpoint, snapshot
from hrm_submit.run.joint_plan import JointPlan
from hrm_submit.run.protocol import Joined, Joint, WorkerSpec
from hrm_submit.run.worker import Worker
from tests.run.lab import challenges, command, events, recolour, tiny, tiny_preset

TASKS = tuple(recolour(f"t{k}", k) for k in range(3))
JOINT = """
[ttt]
joint = 0.4

[train]
optimizer = "muon"
lr = 3e-3
muon_lr = 1e-2
batch_size = 12
segments = 1
warmup_steps = 5
translate = false
colours = "fixed"
"""


def spec(folder: Path, number: int = 0, checkpoint: Path | None = None) -> WorkerSpec:
    return WorkerSpec(number, "cpu", tiny_preset(folder, JOINT), checkpoint, 0)


def test_all_workers_train_together_until_the_same_moment(tmp_path: Path) -> None:
    together = JointPlan(TASKS, tmp_path, 0.25, 110.0, None)
    first, second = together.next(spec(tmp_path, 0), 10.0), together.next(spec(tmp_path, 1), 15.0)
    assert first is not None and first.seconds == pytest.approx(25.0) and first.tasks == TASKS
    assert second is not None and second.seconds == pytest.approx(20.0) and second.path != first.path
    assert together.next(spec(tmp_path, 0), 40.0) is None, "once is enough"
    assert together.next(spec(tmp_path, 2), 36.0) is None, "whoever comes after the end does without"


def test_fixed_work_trains_together_for_a_part_of_all_segments(tmp_path: Path) -> None:
    joint = JointPlan(TASKS, tmp_path, 0.5, float("inf"), 40).next(spec(tmp_path), 0.0)
    assert joint is not None and (joint.segments, joint.seconds) == (60, None)


def test_a_worker_that_comes_later_starts_from_the_joint_weights(tmp_path: Path) -> None:
    together = JointPlan(TASKS, tmp_path, 0.25, 110.0, None)
    assert together.prepared(spec(tmp_path, 0)).checkpoint is None
    together.done(tmp_path / "joint-0.safetensors")
    late = together.prepared(spec(tmp_path, 5))
    assert late.checkpoint == tmp_path / "joint-0.safetensors" and together.next(late, 12.0) is None


@pytest.mark.parametrize(("share", "folder"), [(0.0, True), (0.5, False)])
def test_nothing_is_to_be_done_unless_asked_for(tmp_path: Path, share: float, folder: bool) -> None:
    assert JointPlan(TASKS, tmp_path if folder else None, share, 100.0, None).next(spec(tmp_path), 0.0) is None


def test_a_folder_with_joint_weights_needs_no_joint_training(tmp_path: Path) -> None:
    (tmp_path / "joint-3.safetensors").touch()
    together = JointPlan(TASKS, tmp_path, 0.5, 100.0, None)
    ready = together.prepared(spec(tmp_path))
    assert ready.checkpoint == tmp_path / "joint-3.safetensors" and together.next(ready, 1.0) is None


def test_it_learns_all_demonstrations_and_leaves_a_row_for_each_task(tmp_path: Path) -> None:
    worker = Worker(spec(tmp_path))
    path = tmp_path / "joint-0.safetensors"
    *_, short = worker.join(Joint(TASKS, None, 5, path))
    *_, joined = Worker(spec(tmp_path)).join(Joint(TASKS, None, 300, path))
    assert isinstance(short, Joined) and isinstance(joined, Joined) and joined.segments == 300
    assert joined.loss < 0.3 * short.loss and joined.demo_exact > 0.5
    left = load_checkpoint(path, rows=True)
    assert set(left.meta.row_ids) == {"t0", "t1", "t2"} and left.tables.rows is not None and left.tables.rows.shape[0] == 3
    assert not torch.equal(left.tables.rows[0], left.tables.rows[1])


def test_a_task_starts_from_its_own_row(tmp_path: Path) -> None:
    preset = tiny_preset(tmp_path, JOINT)
    model, embedding = build(preset.model, n_rows=3, seed=0)
    embedding.rows.copy_(torch.arange(3.0)[:, None].expand_as(embedding.rows))
    path = tmp_path / "rows.safetensors"
    save_checkpoint(path, snapshot(model, embedding, CheckpointMeta(row_ids=("t0", "t1", "t2")), keep_rows=True))
    worker = Worker(spec(tmp_path, checkpoint=path))
    for task_id, start in (("t2", 2.0), ("t0", 0.0), ("unknown", 1.0)):
        next(worker.solver.solve(recolour(task_id), segments=1))
        # One segment of sign SGD has moved every value by at most the rate.
        assert worker.solver._embedding.rows[0] == pytest.approx(torch.full((32,), start), abs=0.02)


def test_fixed_work_gives_the_same_file_with_one_worker_and_with_two(tmp_path: Path) -> None:
    file, files = challenges(tmp_path, 3), []
    for workers in (1, 2):
        presets = tiny(tmp_path, JOINT.replace("[train]", f"[device]\nworkers = {workers}\n[train]"))
        out = tmp_path / f"s{workers}.json"
        done = subprocess.run(
            command(file, out, "--preset", presets, "--checkpoint", "none", "--segments-per-task", "8"),
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        files.append(json.loads(out.read_text()))
        run = events(Path(f"{out}.run"))
        told = [e for e in run if e["event"] == "progress" and e.get("phase") == "joint"]
        # The second one may come when the first has finished all; it trains the same if it comes in time.
        assert 1 <= len(told) <= workers and {e["segments"] for e in told} == {round(0.4 * 8 * 3)}
    assert files[0] == files[1]


def test_the_share_must_leave_time_for_the_tasks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="joint"):
        tiny_preset(tmp_path, "[ttt]\njoint = 1.0\n")
