"""Weights that were trained on tasks they are asked to solve: the run, its score and its report say so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hrm_submit.arc.canonical import pair_hash
from hrm_submit.cli import main
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.corpora.sources import load
from hrm_submit.model.weights import CheckpointMeta, build, save_checkpoint, snapshot
from hrm_submit.report.data import load_run
from tests.run.lab import challenges, tiny, tiny_preset


@pytest.mark.parametrize("known", [True, False])
def test_run_score_and_report_tell_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], known: bool) -> None:
    file = challenges(tmp_path, 2)
    tasks = load(file)
    pair = tasks["task01"].train[0]
    meta = CheckpointMeta(hashes=(pair_hash(pair.output, pair.output), *([pair_hash(pair.input, pair.output)] if known else [])))
    model, embedding = build(tiny_preset(tmp_path).model)
    weights, output = tmp_path / "w.safetensors", tmp_path / "s.json"
    save_checkpoint(weights, replace(snapshot(model, embedding, meta)))
    options = ["--preset", tiny(tmp_path), "--checkpoint", str(weights), "--devices", "cpu", "--segments-per-task", "2"]
    assert main(["solve", "--challenges", str(file), "--output", str(output), *options]) == 0

    other = ["--output", str(tmp_path / "other.json"), "--run-dir", str(tmp_path / "other"), "--tasks", "task00"]
    assert main(["solve", "--challenges", str(file), *other, *options]) == 0
    assert json.loads((tmp_path / "other" / "run.json").read_text(encoding="utf-8"))["trained_on"] == [], "of tasks that are asked for"
    run = Path(f"{output}.run")
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["trained_on"] == (["task01"] if known else [])
    write_solutions(tmp_path / "solutions.json", {name: tuple(task.test) for name, task in tasks.items()})
    capsys.readouterr()
    assert main(["score", "--submission", str(output), "--solutions", str(tmp_path / "solutions.json")]) == 0
    told = f"{weights} was trained on 1 of these tasks, the first is task01: a score of them says nothing"
    assert (told in capsys.readouterr().err) == known
    assert (told in load_run(run).notes) == known
