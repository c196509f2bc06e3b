"""A run as a record: its figures counted by hand, and what it was made by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import record_figures
from lab.docs.figures import faults_of_records
from lab.docs.record import record_of

from hrm_submit.arc.task import make_grid
from hrm_submit.core.files import sha256_of
from hrm_submit.model.packaged import CHECKPOINTS
from hrm_submit.report.run.load import load_run
from tests.report.run_folder import start_run

WRONG = make_grid([[9]])


def test_a_run_of_three_tasks_of_which_two_are_solved(tmp_path: Path) -> None:
    run = start_run(tmp_path, ["a", "b", "c"])
    run.solve("a", [(run.truth["a"][0], 3), (WRONG, 1)])
    run.solve("b", [(WRONG, 3), (run.truth["b"][0], 1)], segments=60)
    run.solve("c", [(WRONG, 3)], segments=90, exact=0.2)
    run.end()
    run.writer.describe({"checkpoint_sha256": "ab", "machine": "2 cores of a test"})
    path = tmp_path / "r.json"
    command = [str(run.directory), "--solutions", str(run.solutions), "--what", "three tasks", "--output", str(path)]
    assert record_figures.main(command) == 0
    record = json.loads(path.read_text(encoding="utf-8"))
    found = record["values"]["all"]
    assert (found["tasks"], found["fit"], found["outputs"], found["solved"], found["segments"]) == (3, 2, 3, 2, 60)
    assert (found["pass@1"], found["pass@2"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert found["pass@2 low"] <= found["pass@2"] <= found["pass@2 high"]
    assert sum(v["tasks"] for name, v in record["values"].items() if name not in ("all", "seconds")) == 3
    assert record["table"][-1]["pass@2"].startswith("66.7 % [") and record["weights"] == "ab"
    assert record["about"]["command"] == "python -m hrm_submit solve --challenges some_challenges.json --time-budget 100s --seed 0"
    assert record["about"]["machine"] == "2 cores of a test", "of the run, not of whoever writes the record"
    assert list(faults_of_records({"r": record}, {"ab"})) == []


@pytest.mark.parametrize(
    ("name", "presets", "told"),
    [
        ("nano", "", None),
        ("nano", "nano", None),
        ("arc-agi-2", "", "hrm_submit/checkpoints/arc-agi-2.safetensors"),
        ("mine", "", "mine.safetensors"),
        ("mine", "gone.toml", "mine.safetensors"),
    ],
)
def test_the_command_names_weights_that_the_presets_do_not_take_by_themselves(
    tmp_path: Path, name: str, presets: str, told: str | None
) -> None:
    path = CHECKPOINTS / f"{name}.safetensors"
    run = start_run(tmp_path, ["a"])
    run.solve("a", [(WRONG, 1)])
    run.end()
    run.writer.describe(
        {"checkpoint": f"elsewhere/{path.name}", "checkpoint_sha256": sha256_of(path) if path.exists() else "ab", "presets": presets}
    )
    command = record_of(load_run(run.directory, None, run.solutions), "a run")["about"]["command"].split()
    assert (command[command.index("--checkpoint") + 1] if "--checkpoint" in command else None) == told


def test_without_solutions_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = start_run(tmp_path, ["a"])
    run.end()
    assert record_figures.main([str(run.directory), "--solutions", "gone.json", "--what", "w", "--output", str(tmp_path / "r.json")]) == 2
    assert "gone.json" in capsys.readouterr().err and not (tmp_path / "r.json").exists()
