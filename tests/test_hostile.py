"""Readers against damaged files: each is used, or refused in one line; nothing else is raised, and memory stays bounded.

`make fuzz` runs the same tests with 100 times as many examples.
"""

import copy
import functools
import io
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kaggle_kit.competition import load_competition
from kaggle_kit.dataset import write_pair_file
from lab.ablation_plan import read_plan

from hrm_submit.arc.reader import read_challenges
from hrm_submit.arc.submission import file_faults, to_json
from hrm_submit.arc.task import Pair
from hrm_submit.cli import main
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.schema import ModelConfig
from hrm_submit.core.errors import UserError
from hrm_submit.corpora.solutions import solved_pairs, write_solutions
from hrm_submit.corpora.sources import load, load_corpus
from hrm_submit.model.packaged import resolve_preset
from hrm_submit.model.weights import CheckpointMeta, build, load_checkpoint, save_checkpoint, snapshot
from hrm_submit.record.folder import read_run
from hrm_submit.run.answers import AnswerStore
from tests.hostile import damaged, damaged_json, damaged_lines, damaged_safetensors
from tests.shared import RECORDED

ROOT = Path(__file__).parents[1]
MEMORY = 3 * 2**30
"""Bytes of address space that a reader may take beyond what is in use."""
# A tenth of the profile's examples: 10, or 1,000 with `--hypothesis-profile many`.
examples = settings(
    max_examples=settings().max_examples // 10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True)
def bounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bound the address space, and let the command line raise what is no UserError."""
    monkeypatch.setenv("HRM_SUBMIT_DEBUG", "1")
    before = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def ends_well(*words: object) -> None:
    """Run a command: it succeeds, or says in its last line why not."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
        status = main([str(word) for word in words])
    assert status in (0, 1) or (status == 2 and said.getvalue().splitlines()[-1].startswith("hrm-submit: ")), said.getvalue()


def refused_or_used(use: Callable[[], object]) -> bool:
    """Say whether `use` returns; a UserError of several lines fails, as any other error does."""
    try:
        use()
        return True
    except UserError as error:
        assert "\n" not in str(error).strip()
        return False


@functools.cache
def tasks() -> dict[str, Any]:
    """Return three tasks as their files have them."""
    loaded, answers = load("arc-agi-1-training", solutions=True)

    def pairs(several: Iterable[Pair]) -> list[dict[str, Any]]:
        return [{"input": pair.input.tolist(), "output": pair.output.tolist()} for pair in several]

    few = list(loaded.values())[:3]
    return {task.id: {"train": pairs(task.train), "test": pairs(solved_pairs(task, answers[task.id]))} for task in few}


@pytest.mark.parametrize("name", ["x_challenges.json", "one.json", "pairs.json", "list.json"])
@examples
@given(data=st.data())
def test_tasks(name: str, data: st.DataObject) -> None:
    first, listed = next(iter(tasks().values())), [{"id": name, **value} for name, value in tasks().items()]
    whole = {"x_challenges.json": tasks(), "one.json": first, "pairs.json": first["train"], "list.json": listed}
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder, name), Path(folder, "submission.json")
        path.write_bytes(data.draw(damaged_json(json.dumps(whole[name]).encode())))

        def answered() -> None:
            read, broken = read_challenges(path)
            AnswerStore(read, broken, output).create()
            assert file_faults(output, {**read, **broken}) == [], "fallback answers make a valid file"

        refused_or_used(answered)
        refused_or_used(lambda: load_corpus(str(path)))
        ends_well("convert", path, "--output", Path(folder, "converted"))


def content_of(name: str, write: Callable[[Path], object]) -> bytes:
    """Return what `write` writes to a file of this name."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, name))
        return Path(folder, name).read_bytes()


@functools.cache
def answer_files() -> dict[str, bytes]:
    known = dict(list(load("arc-agi-1-training", solutions=True)[1].items())[:4])
    submission = to_json({name: [(g, g) for g in grids] for name, grids in known.items()})
    return {"solutions": content_of("s.json", lambda path: write_solutions(path, known)), "submission": submission.encode()}


@pytest.mark.parametrize("name", ["solutions", "submission"])
@examples
@given(data=st.data())
def test_answers(name: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for each, real in answer_files().items():
            Path(folder, f"{each}.json").write_bytes(data.draw(damaged_json(real)) if each == name else real)
        submission, solutions = Path(folder, "submission.json"), Path(folder, "solutions.json")
        ends_well("score", "--submission", submission, "--solutions", solutions)
        ends_well("validate", "--submission", submission, "--challenges", "arc-agi-1-training")
        ends_well("merge", submission, "--output", Path(folder, "merged.json"))


@functools.cache
def checkpoint(more: tuple[tuple[str, Any], ...]) -> bytes:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_heads": 2, "puzzle_emb_ndim": 16, "H_layers": 1, "L_layers": 1}
    model, embedding = build(ModelConfig(**sizes | dict(more)))
    meta = CheckpointMeta(data=("x",), steps=5, seconds=2.0, hashes=("0a",), preset="nano", card={"note": {"a": [1, 2.5]}})
    return content_of("a.safetensors", lambda path: save_checkpoint(path, snapshot(model, embedding, meta)))


@pytest.mark.parametrize("name", ["run.json", "events.jsonl", "predictions.jsonl"])
@examples
@given(data=st.data())
def test_run_folders(name: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run, challenges = shutil.copytree(RECORDED / "run", Path(folder, "run")), RECORDED / "challenges.json"
        real = (RECORDED / "run" / name).read_bytes()
        (run / name).write_bytes(data.draw((damaged_json if name == "run.json" else damaged_lines)(real)))
        read, broken = read_challenges(challenges)
        AnswerStore(read, broken, Path(folder, "submission.json")).restore(read_run(run))
        ends_well("watch", "--run-dir", run, "--once")
        ends_well("merge", run, "--output", Path(folder, "merged.json"), "--challenges", challenges)
        ends_well("report", "--run-dir", run, "--challenges", challenges, "--output", Path(folder, "report.html"))


def with_odd_numbers(value: Any, odd: float) -> Iterator[Any]:
    """Yield `value` with each of its numbers replaced in turn, but for its version."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, item in items:
        for changed in [odd] if type(item) in (int, float) and key != "v" else with_odd_numbers(item, odd):
            whole = copy.copy(value)
            whole[key] = changed
            yield whole


@pytest.mark.parametrize(
    "odd", [10**400, -(10**400), 2**63, float("inf"), float("nan"), 1e300], ids=["large", "negative", "2**63", "inf", "nan", "1e300"]
)
def test_numbers_too_large_in_a_run_folder(tmp_path: Path, odd: float) -> None:
    run = shutil.copytree(RECORDED / "run", tmp_path / "run")
    described = json.loads((run / "run.json").read_text())
    described |= {"budget": odd, "seed": odd, "segments": odd}
    described["config"]["ttt"]["fit"] = odd
    (run / "run.json").write_text(json.dumps(described))
    for name in ("events.jsonl", "predictions.jsonl"):
        real = (run / name).read_text().splitlines()
        kinds = {line.get("event"): line for line in map(json.loads, real)}
        strange = [json.dumps(line) for known in kinds.values() for line in with_odd_numbers(known, odd)]
        (run / name).write_text("\n".join([*real, *strange]) + "\n")
    tasks = ["--challenges", RECORDED / "challenges.json"]
    ends_well("merge", run, "--output", tmp_path / "merged.json", *tasks)
    ends_well("report", "--run-dir", run, *tasks, "--output", tmp_path / "report.html")
    ends_well("show", "--run-dir", run)
    ends_well("watch", "--run-dir", run, "--once")
    assert len(read_run(run).predictions) >= len((RECORDED / "run" / "predictions.jsonl").read_text().splitlines())


@functools.cache
def pair_file() -> bytes:
    return content_of("pairs.npz", lambda path: write_pair_file(path, load_corpus("arc-agi-1-training").tasks[:2]))


def one_of(folder: str) -> st.SearchStrategy[bytes]:
    """Damage one of the TOML files of a folder."""
    files = [path.read_bytes() for path in sorted((ROOT / folder).glob("*.toml"))]
    return st.sampled_from(files).flatmap(damaged_lines)


SHARED_ROWS = (("embedding", "shared"), ("conv_size", 3))
FILES: dict[str, tuple[Callable[[], st.SearchStrategy[bytes]], Callable[[Path], object]]] = {
    "a.safetensors": (lambda: damaged_safetensors(checkpoint(())), lambda path: build(load_checkpoint(path, rows=True))),
    "b.safetensors": (lambda: damaged_safetensors(checkpoint(SHARED_ROWS)), lambda path: resolve_preset("", path)),
    "preset.toml": (lambda: one_of("hrm_submit/config/presets"), lambda path: load_preset(f"nano,{path}")),
    "plan.toml": (lambda: one_of("scripts/ablations"), read_plan),
    "competition.toml": (lambda: one_of("scripts/kaggle_kit/competitions"), lambda path: load_competition(path.stem, path.parent)),
    "pairs.npz": (lambda: damaged(pair_file()), lambda path: load_corpus(str(path))),
}


@pytest.mark.parametrize("name", FILES)
@examples
@given(data=st.data())
def test_files_of_one_reader(name: str, data: st.DataObject) -> None:
    content, use = FILES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data.draw(content()))
        refused_or_used(lambda: use(path))
