"""`runs`: what stands in the table, where a score comes from, and two runs compared."""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from hrm_submit.cli import main
from hrm_submit.report.runs import compare_runs, list_runs
from tests.report.lab import Run, small_run
from tests.report.test_browser import OVERFLOW, PHONE, Opener, opened  # noqa: F401
from tests.report.test_show import on_page
from tests.shared import write

RIGHT, WRONG = [[1, 2]], [[3, 4]]
TRUTH = {f"t{k}": [RIGHT] for k in range(4)}


def a_run(folder: Path, solved: str, **settings: Any) -> Run:
    """A run of four tasks that solved those of `solved`."""
    run = small_run(folder, TRUTH, {task: [[(RIGHT, 3)] if task in solved else [(WRONG, 5)]] for task in TRUTH})
    described = json.loads((run.directory / "run.json").read_text())
    write(run.directory / "run.json", described | {"started": "2026-11-01 10:00", "output": str(run.submission)} | settings)
    write(run.submission, {task: [{"attempt_1": RIGHT, "attempt_2": RIGHT}] for task in TRUTH})
    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs, a merged submission, Kaggle's sample, and a record of Kaggle's submissions."""
    longest = {"config_of": [{"config": {"padding": "-" * 100, "ttt": {"lr": rate}}} for rate in (3, 4)]}
    a_run(tmp_path / "a", "t0 t1 t2", config={"ttt": {"lr": 0.1, "fit": 1}}, checkpoint="x/nano.safetensors", **longest)
    longest["config_of"][1]["config"]["ttt"]["lr"] = 5  # type: ignore[index]
    b = {"started": "2026-10-31 09:00", "budget": None, "segments": 30, "config": {"ttt": {"lr": 0.2, "fit": 1}}}
    a_run(tmp_path / "b", "t0 t3", **b, **longest)
    (tmp_path / "a" / "run.json").write_text("[]")
    write(tmp_path / "merged.json", {"t0": [{"attempt_1": RIGHT, "attempt_2": WRONG}], "t1": [{"attempt_1": WRONG, "attempt_2": WRONG}]})
    shutil.copy(tmp_path / "merged.json", tmp_path / "sample_submission.json")
    shutil.copytree(tmp_path / "b" / "run", tmp_path / "tests" / "fixtures" / "run")
    failed = {"ref": 5, "status": "SubmissionStatus.ERROR", "date": "2026-10-01T10:00:00Z", "description": "longer", "publicScore": ""}
    write(tmp_path / "build" / "kaggle" / "submissions.json", [failed, failed | {"ref": 4, "description": None, "publicScore": "6.67"}])
    return tmp_path


def test_runs_submissions_and_kaggle_s_scores_are_listed_by_date(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    listed = list_runs(folder, None)
    assert listed.table is not None and listed.lines == []
    rows = {row.pop("name"): {k: v for k, v in row.items() if v != ""} for row in listed.table.to_dict("records")}
    assert list(rows) == ["longer", "4", "b/run", "a/run", "merged.json"]
    solved = {"command": "solve", "seed": 7, "preset": "nano", "tasks": 4}
    assert rows["a/run"] == solved | {"date": "2026-11-01 10:00", "weights": "nano.safetensors", "budget": "16m40s", "pass@2": "75.0 %"}
    assert rows["b/run"] == solved | {"date": "2026-10-31 09:00", "weights": "none", "budget": "30 segments", "pass@2": "50.0 %"}
    assert rows["longer"] == {"date": "2026-10-01 10:00", "command": "Kaggle submission", "Kaggle": "error"}
    assert rows["4"]["Kaggle"] == "6.67"
    assert (rows["merged.json"]["command"], "pass@2" in rows["merged.json"]) == ("submission", False), "its solutions are not known"
    scored = list_runs(folder, str(folder / "a" / "solutions.json")).table
    assert scored is not None
    assert dict(zip(scored["name"], scored["pass@2"], strict=True))["merged.json"] == "50.0 %", "of its own two tasks"
    shutil.copy(folder / "merged.json", folder / "apart.json")
    described = json.loads((folder / "b" / "run" / "run.json").read_text())
    write(folder / "b" / "run" / "run.json", described | {"output": str(folder / "apart.json")})
    again = list_runs(folder, None).table
    assert again is not None and "b/run" in list(again["name"]) and "apart.json" not in list(again["name"]), "it is the run's"
    monkeypatch.chdir(folder)
    assert main(["runs"]) == 0 and "75.0 %" in capsys.readouterr().out
    write(folder / "merged.json", '{"t0": [{"attempt_1"')
    (note,) = list_runs(folder, None).lines
    assert "merged.json" in note, "what cannot be read costs only itself"


def test_two_runs_compared_show_settings_tasks_and_a_paired_interval(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A solves t0 to t2, B solves t0 and t3, so tasks change by 0, 1, 1, -1: the interval is the plain bootstrap's of these."""
    a, b = folder / "a" / "run", folder / "b" / "run"
    page = compare_runs(a, b, None)._repr_html_()
    root = ElementTree.fromstring(page)
    assert [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")][1:] == [
        ["config.ttt.lr", "0.1", "0.2"],
        ["budget", "1000.0", "null"],
        ["checkpoint", "x/nano.safetensors", ""],
        ["config_of.1.config.ttt.lr", "4", "5"],
        ["segments", "", "30"],
    ]
    assert [h.text for h in root.iter("h4")] == ["gained: task t1, test 1", "gained: task t2, test 1", "lost: task t3, test 1"]
    captions = [
        "test input",
        "answer",
        "A, attempt 1, 3 of 3 votes, right",
        "A, attempt 2, fallback",
        "B, attempt 1, 5 of 5 votes, 2 cells wrong",
    ]
    assert [caption.split(", wrong")[0] for caption, _, _ in on_page(compare_runs(a, b, None))][:5] == captions
    assert main(["runs", "--compare", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert "Compared: 4 tasks that both runs had (of 4 and 4)" in out
    assert f"A is {a}: 3 of 4 test outputs solved. B is {b}: 2 of 4." in out and "2 gained, 1 lost" in out
    value, low, high = map(float, re.findall(r"in points: (\S+) \[(\S+), (\S+)\]", out)[0])
    rng = np.random.default_rng(5)
    means = [100 * rng.choice([0, 1, 1, -1], 4).mean() for _ in range(4000)]
    assert value == 25 and (low, high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=1)
    assert main(["runs", "--compare", str(a), str(a)]) == 0 and "in points: +0.0 [+0.0, +0.0]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["{folder}/nowhere"], "nowhere: no such folder"),
        (["--compare", "{folder}/a/run", "{folder}/c"], "c: no such run folder"),
        (["--compare", "{folder}/a/run"], "--compare: expected 2 arguments"),
        (["{folder}", "--solutions", "nothing"], "unknown data 'nothing'"),
    ],
)
def test_wrong_input_is_one_line(folder: Path, refused: Any, options: list[str], fault: str) -> None:
    assert fault in refused(main, ["runs", *(option.format(folder=folder) for option in options)])


def test_the_page_sorts_by_a_click_on_a_head(folder: Path, opened: Opener) -> None:  # noqa: F811
    path = folder / "runs.html"
    assert main(["runs", str(folder), "--html", str(path)]) == 0
    page = opened(path, PHONE)

    def column(head: str) -> list[str]:
        page.get_by_role("button", name=re.compile(rf"^{re.escape(head)}")).click()
        n = [text.strip(" ▲▼") for text in page.locator("th").all_inner_texts()].index(head)
        return [text for text in page.locator(f"tbody td:nth-child({n + 1})").all_inner_texts() if text]

    assert column("pass@2") == ["50.0 %", "75.0 %"] and column("pass@2") == ["75.0 %", "50.0 %"]
    assert column("budget") == ["16m40s", "30 segments"]
    assert page.evaluate(OVERFLOW) == []
