"""A run folder that an earlier version of the package wrote until it was killed: what is final in it stays, the rest is done."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from hrm_submit.arc.challenges import load_challenges
from hrm_submit.arc.submission import file_faults, load_submission
from hrm_submit.report.data import load_run
from tests.run.lab import challenges, command, events, tiny

RECORDED = Path(__file__).parents[1] / "fixtures" / "run-v1"
"""Four ARC-AGI-1 evaluation tasks of a run that was killed while it worked on the third. Its configuration names keys that are no more,
its predictions do not name their attempt; three candidates of each are kept."""


def test_a_killed_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    shutil.copytree(RECORDED, tmp_path / "copy")
    file, run, output = tmp_path / "copy" / "challenges.json", tmp_path / "copy" / "run", tmp_path / "submission.json"
    before = len(events(run))
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    final = {line["task"]: line["candidates"][0]["grid"] for line in lines if line["final"]}
    assert sorted(final) == ["137f0df0", "2072aba6"] and lines[-1]["task"] == "12eac192", "as it was recorded"

    told = subprocess.run(
        command(file, output, "--run-dir", str(run), "--preset", tiny(tmp_path), "--checkpoint", "none", "--segments-per-task", "2"),
        check=True,
        capture_output=True,
        text=True,
    )
    assert "2 had their final answer from before" in told.stdout
    assert {e["task"] for e in events(run)[before:] if e["event"] == "task_start"} == {"00576224", "12eac192"}
    assert file_faults(output, load_challenges(file)) == []
    answers = load_submission(output)
    assert {task: answers[task][0][0].tolist() for task in final} == final
    whole = load_run(run)
    assert len(whole.state.attempts) == 2 and len(whole.answered) == 4 and whole.notes == ()
    assert [p.attempt for p in whole.record.predictions] == [1] * len(lines) + [2] * (len(whole.record.predictions) - len(lines))


def test_a_run_that_goes_on_with_other_settings_says_which(tmp_path: Path) -> None:
    file, output = challenges(tmp_path, 2), tmp_path / "submission.json"

    def told(more: str, *options: str) -> list[str]:
        words = ["--preset", tiny(tmp_path, more), "--checkpoint", "none", "--segments-per-task", "2", *options]
        done = subprocess.run(command(file, output, *words), check=True, capture_output=True, text=True)
        return [line for line in done.stderr.splitlines() if "other settings" in line]

    assert told("", "--tasks", "task00") == [], "nothing was there before"
    assert told("") == [], "the same settings"
    assert told("[vote]\nviews = 4\n[budget]\nhang_seconds = 99.0\n", "--seed", "3") == [
        f"{output}.run: these answers were made with other settings than this run's: --seed 0; [vote] views = 8"
    ]
