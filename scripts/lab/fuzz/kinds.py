"""What is fuzzed: real files of each kind, how they are mutated, and which of our code then reads them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from lab.fuzz import mutate
from lab.fuzz.mutate import Mutation


@dataclass(frozen=True)
class Kind:
    """`real` puts files into a folder; one of them, drawn, is mutated; `use` reads the folder or file and may write below `out`."""

    count: int
    real: Callable[[Path], None]
    mutation: Callable[[str], Mutation]
    use: Callable[[Path, Path], None]
    whole_folder: bool = False
    """Whether the files of the folder belong together, as those of a run do."""


def _real_tasks(folder: Path) -> None:
    from hrm_submit.arc.entries import read_source

    found = {e.id: e.value for e in read_source("arc-agi-1-training").entries[:40]}
    few = {task: found[task] for task in list(found)[:3]}
    (folder / "x_challenges.json").write_text(json.dumps(few))
    (folder / "one.json").write_text(json.dumps(next(iter(few.values()))))
    (folder / "pairs.json").write_text(json.dumps(next(iter(few.values()))["train"]))
    (folder / "list.json").write_text(json.dumps([{"id": name, **value} for name, value in few.items()]))
    (folder / "lines.jsonl").write_text("\n".join(json.dumps({"id": name, **value}) for name, value in few.items()))


def _use_tasks(path: Path, out: Path) -> None:
    from hrm_submit.arc.challenges import read_challenges
    from hrm_submit.arc.submission import file_faults
    from hrm_submit.core.errors import UserError
    from hrm_submit.corpora.sources import load_corpus
    from hrm_submit.run.answers import AnswerBook

    try:
        tasks, broken = read_challenges(path)
        AnswerBook(tasks, broken, out / "submission.json").create()
        expected = {name: len(task.test) for name, task in tasks.items()} | {name: b.n_outputs for name, b in broken.items()}
        faults = file_faults(out / "submission.json", expected)
        assert not faults, f"the fallback file is not valid: {faults[0]}"
    except UserError:
        pass  # what cannot be solved may still be learnt from
    load_corpus(str(path))


def _real_answers(folder: Path) -> None:
    from hrm_submit.arc.submission import to_json
    from hrm_submit.corpora.solutions import write_solutions
    from hrm_submit.corpora.sources import load

    _, known = load("arc-agi-1-training", solutions=True)
    few = dict(list(known.items())[:4])
    write_solutions(folder / "x_solutions.json", few)
    (folder / "submission.json").write_text(to_json({name: [(g, g) for g in grids] for name, grids in few.items()}))


def _use_answers(path: Path, out: Path) -> None:
    from hrm_submit.arc.submission import file_faults, read_submission
    from hrm_submit.corpora.scoring import score
    from hrm_submit.corpora.sources import answers_of
    from hrm_submit.predict.fallback import BLANK
    from hrm_submit.report.merge import merge
    from hrm_submit.report.options import MergeOptions

    if path.name == "submission.json":
        for fault in file_faults(path, {"x": 1}):
            assert "\n" not in fault, fault
        answers, malformed = read_submission(path)
        assert not any("\n" in line for line in malformed)
        truth = {name: tuple(first for first, _ in given if first.size) for name, given in answers.items()}
        score(answers, {name: outputs for name, outputs in truth.items() if outputs} or {"x": (BLANK,)}, len(malformed))
        merge(MergeOptions(sources=(path,), output=out / "merged.json"))
    else:
        answers_of(path)


def _real_checkpoints(folder: Path) -> None:
    from hrm_submit.config.schema import ModelConfig
    from hrm_submit.model.weights import CheckpointMeta, build, save_checkpoint, save_parts, snapshot

    sizes = {"hidden_size": 16, "num_heads": 2, "puzzle_emb_ndim": 16, "H_layers": 1, "L_layers": 1}
    for name, more in (("a", {}), ("b", {"embedding": "shared", "conv_size": 3})):
        model, embedding = build(ModelConfig(**sizes, **more))  # type: ignore[arg-type]
        meta = CheckpointMeta(data=("x",), steps=5, seconds=2.0, hashes=("0a",), preset="nano", card={"note": {"a": [1, 2.5]}})
        save_checkpoint(folder / f"{name}.safetensors", snapshot(model, embedding, meta))
    part = save_parts(folder / "parts", snapshot(model, embedding, meta), 10**9)[0]
    shutil.copy(part, folder / "part.safetensors")
    shutil.rmtree(folder / "parts")


def _use_checkpoint(path: Path, out: Path) -> None:
    from hrm_submit.model.packaged import resolve_preset
    from hrm_submit.model.weights import build, load_checkpoint

    build(load_checkpoint(path, rows=True))
    resolve_preset("", path)


def _real_presets(folder: Path) -> None:
    for file in (resources.files("hrm_submit.config") / "presets").iterdir():
        if file.name.endswith(".toml"):
            (folder / file.name).write_bytes(file.read_bytes())


def _use_preset(path: Path, out: Path) -> None:
    from hrm_submit.config.preset_files import load_preset

    load_preset(f"nano,{path}")


def _real_run(folder: Path) -> None:
    from hrm_submit.arc.challenges import write_challenges
    from hrm_submit.corpora.sources import load

    tasks = sorted(load("arc-agi-1-training").values(), key=lambda t: (t.largest_side, t.id))[:3]
    write_challenges(folder / "challenges.json", {t.id: t for t in tasks})
    files = ["--challenges", str(folder / "challenges.json"), "--output", str(folder / "s.json"), "--run-dir", str(folder)]
    command = [sys.executable, "-m", "hrm_submit", "solve", *files, "--segments-per-task", "4", "--devices", "cpu"]
    subprocess.run(command, check=True, capture_output=True)


def _use_run(path: Path, out: Path) -> None:
    from hrm_submit.arc.challenges import read_challenges
    from hrm_submit.core.errors import UserError
    from hrm_submit.record.folder import read_run, training_warning
    from hrm_submit.report.build import write_report
    from hrm_submit.report.merge import merge
    from hrm_submit.report.options import MergeOptions, ReportOptions
    from hrm_submit.report.screen.watch import Painter, look_once
    from hrm_submit.run.answers import AnswerBook

    tasks, broken = read_challenges(path / "challenges.json")
    book = AnswerBook(tasks, broken, out / "submission.json")
    record = read_run(path)
    training_warning(record.run)
    book.restore(record)
    book.create()
    Painter(80).paint(look_once(path))
    for use in (
        lambda: write_report(ReportOptions(run_dir=path, output=out / "report.html", challenges=path / "challenges.json")),
        lambda: merge(MergeOptions(sources=(path,), output=out / "merged.json", challenges=path / "challenges.json")),
    ):
        try:
            use()
        except UserError as error:
            assert "\n" not in str(error), str(error)


def _real_plans(folder: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    for file in [*(root / "ablations").glob("*.toml"), *(root / "kaggle_kit" / "competitions").glob("*.toml")]:
        shutil.copy(file, folder)


def _use_plan(path: Path, out: Path) -> None:
    from kaggle_kit.competition import load_competition

    from lab.ablation_plan import read_plan

    if path.stem.startswith("arc-prize"):
        load_competition(path.stem, path.parent)
    else:
        read_plan(path)


KINDS: Mapping[str, Kind] = {
    "challenges": Kind(10_000, _real_tasks, lambda name: mutate.of_lines if name.endswith("l") else mutate.of_json, _use_tasks),
    "checkpoints": Kind(2_000, _real_checkpoints, lambda name: mutate.of_safetensors, _use_checkpoint),
    "presets": Kind(1_000, _real_presets, lambda name: mutate.of_lines, _use_preset),
    "runs": Kind(1_000, _real_run, lambda name: mutate.of_json if name == "run.json" else mutate.of_lines, _use_run, whole_folder=True),
    "answers": Kind(2_000, _real_answers, lambda name: mutate.of_json, _use_answers),
    "plans": Kind(1_000, _real_plans, lambda name: mutate.of_lines, _use_plan),
}
"""By name; `count` is how many a whole run makes."""
