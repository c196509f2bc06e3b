"""Work on a Ray cluster: nodes that are processes of this machine, one of which is killed, joins late, or is the head."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.arc.submission import read_submission
from hrm_submit.arc.task import same_grid
from hrm_submit.cli import main
from hrm_submit.config.schema import Preset
from hrm_submit.core.errors import ClusterError
from hrm_submit.model.packaged import EnsembleMember
from hrm_submit.record.folder import read_run
from hrm_submit.run.protocol import WorkerSpec
from hrm_submit.run.scheduler import Scheduler, Standing
from hrm_submit.solver.messages import Progress
from hrm_submit.version import __version__
from tests.run.lab import challenges, command, events, recolour, tiny, wait_for

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

from hrm_submit.run.cluster import Node, RemoteWorker, specs_on  # noqa: E402

SEGMENTS = "60"
TASKS = 10
SMALL: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head and two more nodes, of one core each."""
    made = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    made.extra = [made.add_node(**SMALL) for _ in range(2)]
    yield made
    made.shutdown()


@pytest.fixture
def local(tmp_path: Path) -> tuple[Path, list[str], bytes]:
    """Tasks, options of fixed work, and the file that local workers make of them."""
    folder = tmp_path / "local"
    folder.mkdir()
    tasks = challenges(folder, TASKS)
    options = ["--preset", tiny(folder, "[device]\nworkers = 2\n"), "--checkpoint", "none", "--segments-per-task", SEGMENTS]
    subprocess.run(command(tasks, folder / "submission.json", *options), check=True, capture_output=True)
    return tasks, options, (folder / "submission.json").read_bytes()


def on_cluster(tasks: Path, output: Path, address: str, options: Sequence[str]) -> list[str]:
    base = [sys.executable, "-m", "hrm_submit", "solve", "--cluster", address]
    return [*base, "--challenges", str(tasks), "--output", str(output), *options]


def locations(run: Path) -> dict[int, str]:
    return {e["worker"]: e["device"] for e in events(run, "worker_start") if not e.get("ready")}


@pytest.mark.slow
def test_three_nodes_of_which_one_dies_and_another_joins_make_the_file_that_one_machine_makes(
    cluster: Any, local: Any, tmp_path: Path
) -> None:
    tasks, options, expected = local
    run = tmp_path / "s.json.run"
    process = subprocess.Popen(
        on_cluster(tasks, tmp_path / "s.json", cluster.address, options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: len([e for e in events(run, "worker_start") if e.get("ready")]) == 3, process, 300)
        first = locations(run)
        assert len(set(first.values())) == 3, "each node has a worker"
        assert sorted(json.loads((run / "run.json").read_text())["devices"]) == sorted(first.values())
        cluster.remove_node(cluster.extra[0], allow_graceful=False)
        cluster.add_node(**SMALL)
        # Ray may count the dead node as alive for a moment, in which another worker is tried there.
        wait_for(lambda: set(locations(run).values()) - set(first.values()), process)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert (tmp_path / "s.json").read_bytes() == expected, "what was lost was done anew, with the same seed"
    assert {e["reason"] for e in events(run, "worker_exit")} == {"worker died"}
    assert len({e["worker"] for e in events(run, "task_final")}) >= 2


@pytest.mark.slow
def test_without_its_head_the_file_is_valid_and_the_run_goes_on_at_home(tmp_path: Path) -> None:
    n = 8
    tasks, output, run = challenges(tmp_path, n), tmp_path / "s.json", tmp_path / "s.json.run"
    options = ["--preset", tiny(tmp_path, "[device]\nworkers = 2\n"), "--checkpoint", "none", "--segments-per-task", "60"]
    made = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    environment = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "3"}
    process = subprocess.Popen(
        on_cluster(tasks, output, made.address, options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        wait_for(lambda: len(events(run, "task_final")) >= 2, process)
        made.shutdown()
        process.communicate(timeout=60)
    finally:
        process.kill()
    shown = read_submission(output)[0]
    finished, begun = {p.task for p in read_run(run).predictions if p.final}, len(events(run))
    assert len(shown) == n and 1 <= len(finished) < n, "valid, with what was known"
    assert subprocess.run(command(tasks, output, *options), capture_output=True).returncode == 0
    again = {e["task"] for e in events(run)[begun:] if e["event"] == "task_start"}
    assert again == {f"task{k:02d}" for k in range(n)} - finished, "what was final is not done twice"
    after = read_submission(output)[0]
    assert all(same_grid(a, b) for t in finished for x, y in zip(shown[t], after[t], strict=True) for a, b in zip(x, y, strict=True))


def test_without_ray_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "hrm_submit.run.cluster")
    given = on_cluster(challenges(tmp_path, 1), tmp_path / "s.json", "local", ["--segments-per-task", "1"])
    assert main(given[3:]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == "hrm-submit: --cluster needs Ray: pip install 'hrm-submit[cluster]'"
    assert len(read_submission(tmp_path / "s.json")[0]) == 1, "a valid file, all the same"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--cluster", "local", "--devices", "cpu"], "leave --devices out"),
        (["--cluster", "local", "--cores-per-worker", "0"], "--cores-per-worker must be at least 1"),
        (["--cluster", "127.0.0.1:1"], "--cluster 127.0.0.1:1: cannot be reached"),
    ],
)
def test_wrong_input_is_one_line(more: list[str], said: str, tmp_path: Path) -> None:
    base = [sys.executable, "-m", "hrm_submit", "solve", "--challenges", str(challenges(tmp_path, 1)), "--output", str(tmp_path / "s.json")]
    done = subprocess.run([*base, "--segments-per-task", "1", *more], capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_another_version_on_a_node_is_refused_in_one_line() -> None:
    with pytest.raises(ClusterError, match=r"has hrm-submit .*, not 0\.0\.1: install the same on all nodes"):
        list(RemoteWorker().begin("0.0.1", b"never opened", None))


def test_a_node_loads_the_weights_it_was_sent_from_a_folder_that_only_its_user_can_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bytes, int, int]] = []
    elsewhere = EnsembleMember("there-2", Preset(), Path("elsewhere", "there.safetensors"))

    class Loading:
        card = "cpu"

        def __init__(self, spec: WorkerSpec) -> None:
            for member in spec.members:
                assert member.checkpoint is not None
                about = member.checkpoint.parent.stat()
                seen.append((member.checkpoint.read_bytes(), about.st_mode & 0o777, about.st_uid))

        def describe(self) -> dict[str, Any]:
            return {}

    weights = b"a" * 100, b"b" * 100
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("hrm_submit.run.worker.Worker", Loading)
    spec = pickle.dumps(WorkerSpec(0, "cpu", Preset(), Path("there.safetensors"), 5, others=(elsewhere,)))
    assert len(list(RemoteWorker().begin(__version__, spec, *weights))) == 1
    assert seen == [(content, 0o700, os.getuid()) for content in weights] and not [*tmp_path.iterdir()], "nothing is left"


def test_workers_are_spread_over_nodes() -> None:
    like = WorkerSpec(0, "cpu", Preset(), None, 5)
    nodes = [Node("1", "a", 4, 0), Node("2", "b", 2, 0), Node("3", "g", 8, 2, "L4")]

    def there(cores: int, most: int = 99, on_gpu: int = 0) -> list[str]:
        preset = replace(Preset(), device=replace(Preset().device, workers_per_gpu=on_gpu))
        specs = specs_on(nodes, replace(like, preset=preset), cores, most)
        assert [s.number for s in specs] == list(range(len(specs))) and {s.seed for s in specs} <= {5}
        return [s.location for s in specs]

    assert there(1) == ["a/cpu", "b/cpu", "g/cuda:0", "a/cpu", "b/cpu", "g/cuda:1", "a/cpu", "a/cpu"]
    assert there(2) == ["a/cpu", "b/cpu", "g/cuda:0", "a/cpu", "g/cuda:1"]
    assert there(4, 2) == ["a/cpu", "g/cuda:0"]
    assert there(8, 9, on_gpu=2) == ["g/cuda:0", "g/cuda:1", "g/cuda:0", "g/cuda:1"]


def test_a_slow_node_gets_more_seconds_for_a_task_and_so_fewer_tasks() -> None:
    """Node a is three times as fast as b: after both were measured, a task has as many segments on either."""
    tasks = [recolour(f"t{k:02d}", k) for k in range(40)]
    scheduler = Scheduler(tasks, Preset(), 1000.0, None)
    nodes = {0: "a", 1: "b"}

    def standing(number: int, free_at: float) -> Standing:
        return Standing(number, f"{nodes[number]}/cpu", free_at)

    shares = {}
    for turn in range(2):
        for number, seconds in ((0, 1.0), (1, 3.0)):
            at = 10.0 * turn
            other = standing(1 - number, at)
            given = scheduler.next(standing(number, at), [other], at)
            assert given is not None and given.seconds is not None
            shares[turn, number] = given.seconds
            scheduler.progress(number, Progress(given.task.id, 10, 0.1, 0.5, 10 * seconds))
    assert shares[0, 0] == pytest.approx(shares[0, 1], rel=0.05), "nobody knows yet"
    assert shares[1, 1] == pytest.approx(3 * shares[1, 0], rel=0.1)
