"""The comparison of voting rules on saved predictions: scores by hand, intervals, and what it says to bad input."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import compare_votes
import numpy as np
import pytest

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.task import make_grid
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.predict.raw import RAW, RawVote, save_raw
from hrm_submit.predict.scores import ViewScores, join
from tests.predict.lab import showing

VIEWS = [Augmentation(), Augmentation(1), Augmentation(4), Augmentation(0, (0, 2, 1, 3, 4, 5, 6, 7, 8, 9))]
RAREST = """
from hrm_submit.predict.vote import Candidate, vote

def rule(scores):
    found = vote(p for p in scores.predictions() if p is not None)
    return [Candidate(c.grid, c.votes, c.score, -c.votes) for c in found[::-1]]
"""
"""A rule of one's own: the grid that fewest views gave."""


def shown(*colours: int, sure: float = 0.9) -> ViewScores:
    """Each view shows one cell of a colour, on a canvas of side 3."""
    return showing([make_grid([[c]]) for c in colours], [VIEWS[k % 4] for k in range(len(colours))], 3, sure)


def saved(run: Path, task: str, *outputs: ViewScores, restart: int = 0) -> Path:
    of_output = np.repeat(np.arange(len(outputs)), [len(o) for o in outputs])
    return save_raw(run / RAW, RawVote(task, restart, of_output, join(outputs)))


def solutions(folder: Path, **answers: Sequence[int]) -> Path:
    path = folder / "solutions.json"
    write_solutions(path, {task: tuple(make_grid([[c]]) for c in colours) for task, colours in answers.items()})
    return path


def table(folder: Path, *arguments: str) -> dict[str, Any]:
    assert compare_votes.main([*arguments, "--json", str(folder / "table.json")]) == 0
    return dict(json.loads((folder / "table.json").read_text()))


def row(content: dict[str, Any], rule: str) -> dict[str, Any]:
    (found,) = [r for r in content["rows"] if r["rule"] == rule]
    return dict(found)


def scores(found: dict[str, Any]) -> tuple[float, float, float]:
    return found["pass@1"]["value"], found["pass@2"]["value"], found["oracle"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Task a: 1 has three votes, 2 two and 3 one, which the rule `rarest` puts first; task b has two outputs."""
    saved(tmp_path / "run", "a", shown(1, 1, 1, 2, 2, 3))
    saved(tmp_path / "run", "b", shown(4, 4, 4, 4, 5), shown(6, 7, 7))
    (tmp_path / "rarest.py").write_text(RAREST)
    return tmp_path / "run"


def test_a_rule_of_ones_own_is_compared_with_the_others(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers: a 3, which only `rarest` finds; b 4, then 6, which is the second attempt of `counts` and the first of `rarest`."""
    options = (
        "--solutions",
        str(solutions(tmp_path, a=[3], b=[4, 6], other=[1])),
        "--against",
        "counts",
        "--own",
        str(tmp_path / "rarest.py"),
    )
    content = table(tmp_path, str(run), *options)
    assert (content["tasks"], content["outputs"], content["runs"]) == (2, 3, ["run"])
    assert content["baseline"] == "counts"
    counted, rarest = row(content, "counts"), row(content, "rarest")
    assert scores(counted) == (pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0)
    assert scores(rarest) == (pytest.approx(2 / 3), 1.0, 1.0)
    assert counted["gained"] == counted["lost"] == [] and counted["difference@2"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert (rarest["gained"], rarest["lost"]) == (["a#0"], []) and rarest["difference@2"]["value"] == pytest.approx(1 / 3)
    assert (rarest["difference@2"]["low"], rarest["difference@2"]["high"]) == (0.0, 1.0), "of two tasks both may be drawn as a"
    text = capsys.readouterr().out
    assert text.startswith("runs: run; 3 test outputs of 2 tasks; compared with 'counts'\n") and "rarest gains a#0\n" in text
    (line,) = [x for x in text.splitlines() if x.startswith("rarest  ")]
    assert line.split("[")[0].split() == ["rarest", "66.7"] and line.split()[-3:] == ["1", "0", "100.0"]

    shutil.copytree(run, tmp_path / "again")  # another seed is another sample of the same tasks
    twice = table(tmp_path, str(run), str(tmp_path / "again"), *options)
    assert (twice["outputs"], twice["tasks"], twice["runs"]) == (6, 2, ["again", "run"])
    figures = [[(r["pass@1"], r["pass@2"], r["oracle"]) for r in made["rows"]] for made in (content, twice)]
    assert figures[0] == figures[1] and row(twice, "rarest")["gained"] == ["run:a#0", "again:a#0"]

    solutions(tmp_path, a=[1], b=[4, 6])
    capsys.readouterr()
    lost = table(tmp_path, str(run), *options, "--markdown")
    assert [r["rule"] for r in lost["rows"]] == ["counts", "composite", "rarest"]
    assert (lost["rows"][2]["gained"], lost["rows"][2]["lost"]) == ([], ["a#0"])
    assert lost["rows"][2]["difference@2"]["value"] == pytest.approx(-1 / 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| rule | pass@1 % | pass@2 % |") and lines[3].startswith("| --- |")
    assert all(line.count("|") == lines[2].count("|") for line in lines[2:6]) and "- rarest loses a#0" in lines


def test_retrains_are_pooled_whatever_their_canvas_and_run_folders_are_samples_or_are_pooled_too(tmp_path: Path) -> None:
    runs = [str(tmp_path / name) for name in ("retrained", "here", "there")]
    saved(Path(runs[0]), "a", shown(1, 1, 1, 2, 2), restart=0)
    saved(Path(runs[0]), "a", showing([make_grid([[c]]) for c in (2, 2, 3, 3, 3)], [*VIEWS, Augmentation()], 5), restart=1)
    content = table(tmp_path, runs[0], "--solutions", str(solutions(tmp_path, a=[2])))
    assert scores(row(content, "counts")) == (1.0, 1.0, 1.0), "four votes of ten"
    for run, votes in zip(runs[1:], ((1, 1, 1, 3, 3), (2, 2, 2, 3, 3)), strict=True):
        saved(Path(run), "a", shown(*votes))
    answers = ["--solutions", str(solutions(tmp_path, a=[3]))]
    apart, together = table(tmp_path, *runs[1:], *answers), table(tmp_path, *runs[1:], *answers, "--pool")
    assert (apart["outputs"], scores(row(apart, "counts"))[0]) == (2, 0.0), "1 wins here and 2 there, by two votes each"
    assert (together["outputs"], scores(row(together, "counts"))[0]) == (1, 1.0), "together 3 has four"


def test_damaged_files_are_skipped_and_empty_views_are_wrong(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / RAW / "a.npz"
    path.write_bytes(path.read_bytes()[:300])
    saved(run, "unknown", shown(1))
    saved(run, "b", showing([None, None], VIEWS[:2], 3), shown(6))
    content = table(tmp_path, str(run), "--solutions", str(solutions(tmp_path, a=[3], b=[4, 6])))
    assert (content["tasks"], content["outputs"], len(content["skipped"])) == (1, 2, 2)
    assert {scores(r) for r in content["rows"]} == {(0.5, 0.5, 0.5)}, "an output whose views show nothing counts as wrong"
    told = capsys.readouterr().err.splitlines()
    assert any(f"skipped: {path}: no raw predictions: " in line for line in told)
    assert any("skipped: unknown: " in line and "has no solution" in line for line in told)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["{empty}"], "no raw predictions there: solve with the preset key save_raw = true in [vote]"),
        (["{run}", "{run}"], "the same run folder twice"),
        (["{run}", "--against", "guess"], "--against: unknown rule 'guess'; known: counts; composite"),
        (["{run}", "--solutions", "{short}"], "b: solutions for 1 outputs, but there are more test inputs"),
        (["{run}", "--solutions", "{other}"], "nothing to compare"),
        (["{run}", "--solutions", "{missing}"], "missing"),
        (["{run}", "--own", "{missing}.py"], "FileNotFoundError"),
        (["{run}", "--own", "{run}/../empty.py"], "no function called rule"),
        (["{run}", "--own", "{run}/../fails.py"], "ZeroDivisionError"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], fault: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.py").write_text("x = 1")
    (tmp_path / "fails.py").write_text("1/0")
    paths = {"run": run, "missing": tmp_path / "missing", "empty": tmp_path / "empty"}
    for name, answers in (("good", {"a": [3], "b": [4, 6]}), ("short", {"a": [3], "b": [4]}), ("other", {"c": [1]})):
        paths[name] = solutions(tmp_path, **answers).rename(tmp_path / f"{name}.json")
    given = [a.format(**paths) for a in arguments]
    given += [] if "--solutions" in given else ["--solutions", str(paths["good"])]
    assert compare_votes.main(given) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "skipped" not in x]
    assert line.startswith("compare_votes: ") and fault in line
