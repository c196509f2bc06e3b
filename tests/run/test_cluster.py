"""Work on a Ray cluster: nodes that are processes of this machine, one of which is killed, joins late, or is the head."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from hrm_submit.run.placement import with_device
from hrm_submit.run.protocol import WorkerSpec
from hrm_submit.version import __version__
from tests.run.lab import challenges, command, events, tiny, wait_for

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

from hrm_submit.run.cluster import Node, RemoteWorker, specs_on  # noqa: E402

TASKS = 10
SMALL: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@contextmanager
def nodes(more: int = 0) -> Iterator[Any]:
    """A head and `more` nodes, of one core each."""
    made = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    made.extra = [made.add_node(**SMALL) for _ in range(more)]
    yield made
    made.shutdown()


def fixed_work(folder: Path) -> list[str]:
    preset = tiny(folder, "[device]\nworkers = 2\n")
    return ["--preset", preset, "--checkpoint", "none", "--segments-per-task", "60"]


def on_cluster(tasks: Path, output: Path, address: str, options: Sequence[str]) -> list[str]:
    base = [sys.executable, "-m", "hrm_submit", "solve", "--cluster", address]
    return [*base, "--challenges", str(tasks), "--output", str(output), *options]


@contextmanager
def begun(words: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is over when the block is."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, env={**os.environ, **environment}, **pipes)
    try:
        yield process
    finally:
        process.kill()


def locations(run: Path) -> set[str]:
    return {e["device"] for e in events(run, "worker_start") if not e.get("ready")}


@pytest.mark.slow
def test_three_nodes_of_which_one_dies_and_another_joins_make_the_file_that_one_machine_makes(tmp_path: Path) -> None:
    tasks, options, run = challenges(tmp_path, TASKS), fixed_work(tmp_path), tmp_path / "s.json.run"
    subprocess.run(command(tasks, tmp_path / "local.json", *options), check=True, capture_output=True)
    with nodes(2) as cluster, begun(on_cluster(tasks, tmp_path / "s.json", cluster.address, options)) as process:
        wait_for(lambda: len([e for e in events(run, "worker_start") if e.get("ready")]) == 3, process, 300)
        first = locations(run)
        assert len(first) == 3, "each node has a worker"
        assert sorted(json.loads((run / "run.json").read_text())["devices"]) == sorted(first)
        cluster.remove_node(cluster.extra[0], allow_graceful=False)
        cluster.add_node(**SMALL)
        # Ray may count the dead node as alive for a moment, in which another worker is tried there.
        wait_for(lambda: locations(run) - first, process)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert (tmp_path / "s.json").read_bytes() == (tmp_path / "local.json").read_bytes(), "what was lost was done anew, with the same seed"
    assert {e["reason"] for e in events(run, "worker_exit")} == {"worker died"}
    assert len({e["worker"] for e in events(run, "task_final")}) >= 2


@pytest.mark.slow
def test_without_its_head_the_file_is_valid_and_the_run_goes_on_at_home(tmp_path: Path) -> None:
    tasks, output, run = challenges(tmp_path, TASKS), tmp_path / "s.json", tmp_path / "s.json.run"
    options, soon = fixed_work(tmp_path), {"RAY_gcs_rpc_server_reconnect_timeout_s": "3"}
    with nodes() as cluster, begun(on_cluster(tasks, output, cluster.address, options), **soon) as process:
        wait_for(lambda: len(events(run, "task_final")) >= 2, process)
        cluster.shutdown()
        process.communicate(timeout=60)
    shown = read_submission(output)[0]
    finished, begun_before = {p.task for p in read_run(run).predictions if p.final}, len(events(run))
    assert len(shown) == TASKS and 1 <= len(finished) < TASKS, "valid, with what was known"
    assert subprocess.run(command(tasks, output, *options), capture_output=True).returncode == 0
    again = {e["task"] for e in events(run)[begun_before:] if e["event"] == "task_start"}
    assert again == set(shown) - finished, "what was final is not done twice"
    after = read_submission(output)[0]
    assert all(same_grid(a, b) for t in finished for x, y in zip(shown[t], after[t], strict=True) for a, b in zip(x, y, strict=True))


def test_without_ray_one_line_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "hrm_submit.run.cluster")
    given = on_cluster(challenges(tmp_path, 1), tmp_path / "s.json", "local", ["--segments-per-task", "1"])
    assert main(given[3:]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == "hrm-submit: --cluster needs Ray: pip install 'ray>=2.40'"
    assert len(read_submission(tmp_path / "s.json")[0]) == 1, "a valid file, all the same"


@pytest.mark.parametrize(
    ("address", "more", "said"),
    [
        ("local", ["--devices", "cpu"], "leave --devices out"),
        ("local", ["--cores-per-worker", "0"], "--cores-per-worker must be at least 1"),
        ("127.0.0.1:1", [], "--cluster 127.0.0.1:1: cannot be reached"),
    ],
)
def test_wrong_input_is_one_line(address: str, more: list[str], said: str, tmp_path: Path, refused: Any) -> None:
    assert said in refused(main, on_cluster(challenges(tmp_path, 1), tmp_path / "s.json", address, ["--segments-per-task", "1", *more])[3:])


def test_another_version_on_a_node_is_refused_in_one_line() -> None:
    with pytest.raises(ClusterError, match=r"has hrm-submit .*, not 0\.0\.1: install the same on all nodes"):
        list(RemoteWorker().begin("0.0.1", b"never opened", None))


def test_a_node_loads_the_weights_it_was_sent_from_a_folder_that_only_its_user_can_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bytes, int, int]] = []
    members = tuple(EnsembleMember(place, Preset(), Path(place, "there.safetensors")) for place in ("here", "elsewhere"))

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
    spec = pickle.dumps(WorkerSpec(0, "cpu", members, 5))
    assert len(list(RemoteWorker().begin(__version__, spec, *weights))) == 1
    assert seen == [(content, 0o700, os.getuid()) for content in weights] and not [*tmp_path.iterdir()], "nothing is left"


def test_workers_are_spread_over_nodes() -> None:
    like = WorkerSpec(0, "cpu", (EnsembleMember("one", Preset(), None),), 5)
    nodes = [Node("1", "a", 4, 0), Node("2", "b", 2, 0), Node("3", "g", 8, 2, "L4")]

    def there(cores: int, most: int = 99, on_gpu: int = 0) -> list[str]:
        specs = specs_on(nodes, replace(like, members=with_device(like.members, workers_per_gpu=on_gpu)), cores, most)
        assert [s.number for s in specs] == list(range(len(specs))) and {s.seed for s in specs} <= {5}
        return [s.location for s in specs]

    assert there(1) == ["a/cpu", "b/cpu", "g/cuda:0", "a/cpu", "b/cpu", "g/cuda:1", "a/cpu", "a/cpu"]
    assert there(2) == ["a/cpu", "b/cpu", "g/cuda:0", "a/cpu", "g/cuda:1"]
    assert there(4, 2) == ["a/cpu", "g/cuda:0"]
    assert there(8, 9, on_gpu=2) == ["g/cuda:0", "g/cuda:1", "g/cuda:0", "g/cuda:1"]
