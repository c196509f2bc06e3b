"""The command and the file it writes, read back by an HTML parser that knows nothing of how it was made."""

import base64
import hashlib
import json
import re
import sys
import zlib
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from hrm_submit.cli import main
from hrm_submit.record.folder import read_run
from hrm_submit.record.state import RunState
from hrm_submit.report.board import curves
from hrm_submit.report.charts import timeline_chart
from hrm_submit.report.page import worker_seconds
from hrm_submit.report.tables import read_tables
from tests.events import event
from tests.report.lab import Run, Written, small_run

A, B = [[1, 1]], [[2, 2]]
VOID = {"meta", "input", "br", "img", "link"}


class Page(HTMLParser):
    """What is in a page: how many of each element, their attributes, and its text but that of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.open, self.words, self.scripts = list[str](), list[str](), list[str]()
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.words).split())
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.open += [tag] if tag not in VOID else []

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            (self.scripts if self.open[-1] == "script" else self.words).append(data)


def report(run: Run, *more: str) -> tuple[Page, str]:
    """The page of `run`, parsed and as it is."""
    path = run.directory.parent / "report.html"
    assert main(run.options("--output", str(path), *more)) == 0
    return Page(path.read_text()), path.read_text()


def unpacked(text: str) -> list[str]:
    blocks = re.findall(r'class="more">([^<]*)</script>', text)
    return [zlib.decompress(base64.b64decode(block)).decode() for block in blocks]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Three tasks: right, wrong, nearly."""
    truths = {"right": [A], "wrong": [A], "half": [A, B]}
    return small_run(tmp_path, truths, {"right": [[(A, 3), (B, 1)]], "wrong": [[(B, 2)]], "half": [[(A, 4)], [([[0, 0]], 4)]]})


def test_the_page_says_what_the_tables_say_and_judges_nothing_without_solutions(run: Run, tmp_path: Path) -> None:
    page, _ = report(run)
    assert page.tags["h1"] == 1 and page.tags["dialog"] == 1
    assert "50.0 % pass@2" in page.text, "2 of 4 outputs"
    assert "1 of 3 tasks and 2 of 4 test outputs solved" in page.text
    for words in ("55.0s of 16m40s", "device cpu, bfloat16", "preset nano", "seed 7", "hrm_submit 0", "≈ nearly 1"):
        assert words in page.text, words
    states = [value for tag, name, value in page.attributes if tag == "li" and name == "data-state"]
    assert states == ["solved", "wrong", "nearly"]

    path = tmp_path / "bare.html"
    assert main(["report", "--run-dir", str(run.directory), "--output", str(path)]) == 0
    page = Page(path.read_text())
    assert page.tags["li"] >= 1 and "Not scored The model answered 3 of 3 tasks." in page.text
    assert "answer" not in "".join(unpacked(path.read_text())) and "✗" not in page.text.replace("✗ wrong 0", "")


def test_the_page_is_one_file_that_asks_for_nothing_and_is_the_same_each_time(run: Run) -> None:
    page, text = report(run)
    assert report(run)[1] == text
    assert not any(page.tags[tag] for tag in ("link", "img", "iframe", "object", "base"))
    assert not [a for a in page.attributes if a[1] in ("src", "srcset", "action") or a[1].startswith("on")]
    assert all(value.startswith("#") for _, name, value in page.attributes if name.endswith("href"))
    assert "url(" not in re.sub(r"url\(#", "", text) and "@import" not in text
    runs = [script for script in page.scripts if "addEventListener" in script]
    assert len(runs) == 1
    digest = base64.b64encode(hashlib.sha256(runs[0].encode()).digest()).decode()
    (policy,) = [value for tag, name, value in page.attributes if tag == "meta" and "default-src" in value]
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy
    assert max(Counter(value for _, name, value in page.attributes if name == "id").values()) == 1
    svgs = re.findall(r"<svg.*?</svg>", text + "".join(unpacked(text)), flags=re.DOTALL)
    assert len(svgs) > 30
    for svg in svgs:
        root = ElementTree.fromstring(svg.replace("xlink:href", "href"))
        assert root.attrib["role"] == "img" and root.attrib["aria-label"]


def test_ids_and_everything_else_from_files_are_escaped(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&lt;"
    run = small_run(tmp_path, {evil: [A], "b": [B]}, {evil: [[(B, 1), (A, 1)]], "b": [[(B, 1)]]})
    written = Written(run, presets=evil, seed=evil, devices=[evil], versions={evil: evil}, config={evil: evil}, checkpoint=evil)
    written.begin([evil, "b"])
    written.tell(10, "task_start", evil, 0, seconds=5)
    written.tell(12, "task_failed", evil, 0, reason=evil)
    written.tell(13, "task_start", evil, 0, seconds=5)
    written.tell(14, "task_final", evil, 0, segments=3, reason=evil)
    written.answer(evil, 0, [(B, 1)])
    (run.directory / "events.jsonl").open("a").write(f'{{"v":1,"t":{json.dumps(evil)}}}\n')
    page, text = report(run)
    assert page.tags["img"] == 0 and page.tags["script"] == 1 + 2, "the page's own, and what is packed of each task"
    assert not [a for a in page.attributes if a[1].startswith("on")]
    assert ("li", "data-id", evil) in page.attributes
    assert page.text.count("alert(1)") >= 8, "shown as text wherever it belongs"
    more = Page("".join(unpacked(text)))
    assert more.tags["img"] == more.tags["script"] == 0 and "alert(1)" in more.text, "the reason why its training ended"


def test_strange_letters_reach_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["任務 ✓", "a" * 300, "", "$\\frac{1}$", "\x00\n", "\ud800"]
    run = small_run(tmp_path, {name: [A] for name in names}, {name: [[(A, 1)]] for name in names[:3]})
    page, _ = report(run, "--json", str(tmp_path / "t.json"), "--csv", str(tmp_path / "csv"))
    assert "任務 ✓" in page.text and "$\\frac{1}$" in page.text and page.tags["li"] >= 6
    assert capsys.readouterr().err == ""


def test_a_page_of_many_tasks_stays_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    grids = (rng.integers(0, 10, (60, 10, 14, 14)) * (rng.random((60, 10, 14, 14)) < 0.2)).tolist()
    answers = {f"t{k}": [[(grid, 9 - n) for n, grid in enumerate(some)]] for k, some in enumerate(grids)}
    run = small_run(tmp_path, {f"t{k}": [some[k % 3]] for k, some in enumerate(grids)}, answers)
    _, content = report(run)
    assert "60 tasks" in capsys.readouterr().out
    assert len(content) < 60 / 240 * 5e6
    assert Counter(re.findall(r'class="card \w+" data-id="[^"]*" data-state="(\w+)"', content)) == {"solved": 40, "wrong": 20}


def test_worker_time_is_counted_by_phase_and_the_rest_is_idle() -> None:
    lines = [(0, "worker_start", None, {"device": "cpu"}), (10, "worker_start", None, {"ready": True}), (11, "task_start", "a", {})]
    lines += [(20, "progress", "a", {}), (22, "task_final", "a", {}), (30, "task_start", "b", {}), (36, "run_end", None, {})]
    state = RunState(event(kind, task, 0, t=t, **fields) for t, kind, task, fields in lines)
    assert worker_seconds(state) == {"loading": 10, "training": 9, "vote": 2, "lost": 6, "idle": 9}


def test_workers_of_a_cluster_stand_with_their_nodes() -> None:
    state = RunState()
    for number, place in enumerate(("10.0.0.2/cpu", "10.0.0.1/cuda:0", "10.0.0.2/cpu", "cpu")):
        state.take(event("worker_start", worker=number, device=place))
        state.take(event("worker_start", worker=number, t=2.0, ready=True))
    drawn = timeline_chart(state)
    places = [drawn.find(f">{label}<") for label in ("worker 3", "10.0.0.1, worker 1", "10.0.0.2, worker 0", "10.0.0.2, worker 2")]
    assert places == sorted(places) and places[0] > 0
    early = timeline_chart(
        RunState([event("run_start", budget=41400.0), event("worker_start", worker=0, device="cpu"), event("run_end", t=180.0)])
    )
    marks = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle"', early)]
    assert len(marks) > 3 and min(b - a for a, b in pairwise(sorted(marks))) > 30, "of a run that ended early, too"


def test_a_killed_run_and_one_that_never_began(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(tmp_path, {"a": [A], "b": [B]}, {"a": [[(A, 1)]]})
    events = run.directory / "events.jsonl"
    whole = events.read_bytes()
    events.write_bytes(whole[: whole.index(b'"run_end"') - 5])
    page, _ = report(run)
    assert "no answer from the model" in page.text
    fault, said = f"events.jsonl:{len(whole.splitlines())}:", capsys.readouterr()
    assert "then cut off" in page.text and fault in page.text
    assert said.out.startswith(str(tmp_path / "report.html")) and len(said.err.splitlines()) == 1 and fault in said.err
    events.write_bytes(b"")
    (run.directory / "predictions.jsonl").unlink()
    (run.directory / "run.json").write_text("{")
    page, _ = report(run, "--challenges", str(run.challenges))
    assert "No worker of this run" in page.text and "run.json:" in page.text


def test_json_and_csv_hold_the_tables_and_tensorboard_the_curves(run: Run, tmp_path: Path) -> None:
    report(run, "--json", str(tmp_path / "t.json"), "--csv", str(tmp_path / "csv"))
    content = json.loads((tmp_path / "t.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    tables = read_tables(run.directory, solutions=run.solutions)
    for name, frame in vars(tables).items():
        # Grids of digits and empty texts would be taken for numbers and gaps.
        texts = {column: str for column in frame if frame[column].dtype == "string"}
        read = pd.read_csv(tmp_path / "csv" / f"{name}.csv", dtype=texts, keep_default_na=False, na_values={c: [""] for c in frame})
        pd.testing.assert_frame_equal(read.astype(frame.dtypes.to_dict()), frame)
        assert [row["task"] for row in content[name]] == [None if pd.isna(t) else t for t in frame["task"]]
    assert content["score"]["score"]["pass@2"] == 0.5
    assert [row["solved"] for row in content["outputs"]] == [True, False, True, False]
    assert content["tasks"][1]["best_cell_accuracy"] == 0 and content["outputs"][1]["rank"] is None
    trainings = read_run(run.directory).state.trainings
    assert list(curves(trainings[0])) == [(20.0, 30, "loss", 0.5), (20.0, 30, "exact demonstrations", 0.25)]


def test_wrong_input_is_one_line(run: Run, tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    page, none = str(tmp_path / "x.html"), str(tmp_path / "none")
    other = small_run(tmp_path / "other", {"elsewhere": [A]}, {"elsewhere": [[(A, 1)]]})
    at = ["report", "--run-dir", str(run.directory), "--output", page]
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "short.json").write_text(json.dumps({"half": [A]}))
    cases = [
        (["report", "--run-dir", none, "--output", page], "no such run folder"),
        ([*at, "--solutions", str(tmp_path / "none.json")], "no such file"),
        ([*at, "--solutions", str(tmp_path / "broken.json")], "not JSON"),
        ([*at, "--solutions", str(tmp_path / "short.json")], "task half: 1 solutions for 2 test inputs"),
        ([*at, "--solutions", str(other.solutions)], "no solution of any task of this run"),
        ([*at, "--challenges", str(other.challenges)], "not the challenges file of this run"),
        ([*at, "--challenges", str(tmp_path / "none.json")], "no such file"),
        (run.options("--output", str(tmp_path / "none" / "x.html")), "cannot be written"),
        (run.options("--output", page, "--csv", str(run.challenges)), "cannot be written"),
        (run.options("--output", page, "--tensorboard", str(tmp_path / "board")), "--tensorboard needs the tensorboard package"),
    ]
    for argv, said in cases:
        assert said in refused(main, argv)
