"""Pages with faults in them, each found and named with its line; a page without any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab.docs import figures, run, still
from lab.docs.page import headings, read_page


def page(folder: Path, text: str, name: str = "page.md") -> Any:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_page(path)


def test_blocks_have_their_marks_and_lines(tmp_path: Path) -> None:
    found = page(tmp_path, "# T\n\n<!-- run: 8m = 15s -->\n```sh\nsleep 8m\n```\n\n1. in a list\n   ```text\n   shown\n   ```\n")
    assert [(b.line, b.language, b.kind, b.text) for b in found.blocks] == [(5, "sh", "run", "sleep 8m\n"), (10, "text", "", "shown\n")]
    assert found.blocks[0].replaced == "sleep 15s\n"
    assert "sleep" not in found.prose and len(found.prose.split("\n")) == len(found.text.split("\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```sh\nls\n```\n", "a block of sh without a mark"),
        ("<!-- runs -->\n```sh\nls\n```\n", "a mark says 'runs'"),
        ("<!-- run: 9m = 1s -->\n```sh\nls\n```\n", "replaces '9m', which is not in it"),
    ],
)
def test_a_mark_that_is_missing_or_wrong(tmp_path: Path, text: str, said: str) -> None:
    ((_, fault),) = still.faults_of_marks(page(tmp_path, text))
    assert said in fault


def test_links_and_names_lead_somewhere(tmp_path: Path) -> None:
    page(tmp_path, "# One `code` head, and more\n", "other.md")
    text = (
        "[a](other.md) [b](other.md#one-code-head-and-more) [c](https://example.org) `scripts/ablate.py` `tests/*/test_act.py`\n"
        "[d](gone.md)\n[e](other.md#two)\n`scripts/gone.py`\n"
    )
    found = list(still.faults_of_links(page(tmp_path, text)))
    assert [line for line, _ in found] == [2, 3, 4]


def test_anchors_are_those_of_github() -> None:
    assert headings("# `solve`: what it *does*\n\n```sh\n# no heading\n```\n## A-B c\n") == {"solve-what-it-does", "a-b-c"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("python -m hrm_submit solve --challenges F --output G --time-budget 1m", ""),
        ("HRM=1 hrm-submit validate --submission F --challenges \\\n  G && make simulate ARGS='--tasks 3'", ""),
        ("python -m hrm_submit solve --budget 1m", "has no option --budget"),
        ("python -m hrm_submit sing", "invalid choice"),
        ("python scripts/nothing.py", "scripts/nothing.py is not there"),
        ("make nonsense", "make has no target nonsense"),
        ("kaggle competitions list", ""),
    ],
)
def test_commands_that_are_not_run_have_their_options(tmp_path: Path, line: str, said: str) -> None:
    (block,) = page(tmp_path, f"<!-- not run: here -->\n```sh\n{line}\n```\n").blocks
    faults = [fault for _, fault in still.faults_of_options(block)]
    assert len(faults) == bool(said) and all(said in fault for fault in faults)


def test_blocks_run_in_order_in_one_folder_that_is_not_the_clone(tmp_path: Path) -> None:
    text = "\n".join(
        [
            *("<!-- file: made/mine.txt -->", "```text", "12 tasks", "```"),
            *("<!-- run -->", "```sh", "cat made/mine.txt; test -f scripts/ablate.py; touch left; rm -r notebook", "```"),
            *("<!-- output -->", "```text", "...", "7   tasks", "```"),
            *("<!-- run: 3 = 5 -->", "```python", "from pathlib import Path", "print(Path('left').exists(), 3)", "```"),
            *("<!-- output -->", "```text", "True 5", "```"),
            *("<!-- slow -->", "```sh", "false", "```"),
            *("<!-- fails: 3 -->", "```sh", "exit 3", "```"),
        ]
    )
    made = page(tmp_path, text)
    assert list(run.faults_of_runs(made, everything=False)) == []
    ((line, fault),) = run.faults_of_runs(made, everything=True)
    assert (line, "exit status 1" in fault) == (25, True)
    assert not (still.ROOT / "left").exists() and (still.ROOT / "notebook").is_dir()


def test_a_make_of_a_page_does_not_get_the_variables_of_the_make_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MAKEFLAGS", " -- ARGS=--all"), ("MAKELEVEL", "1"), ("ARGS", "--all")):
        monkeypatch.setenv(name, value)
    rule = "printf 'it:\\n\\t@echo \"got <$(ARGS)>\"\\n' > m; make -s -f m it"
    text = f"<!-- run -->\n```sh\n{rule}\n```\n<!-- output -->\n```text\ngot <>\n```\n"
    assert list(run.faults_of_runs(page(tmp_path, text), everything=False)) == []


def test_what_was_not_printed_and_what_takes_too_long_are_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LIMIT", 0.5)
    text = "<!-- run -->\n```sh\necho one 1\n```\n<!-- output -->\n```text\ntwo 1\n```\n<!-- run -->\n```sh\nsleep 60\n```\n"
    assert [fault.split(":")[0] for _, fault in run.faults_of_runs(page(tmp_path, text), everything=False)] == [
        "shows a line that was not printed",
        "exit status none within 0.5 s",
    ]


RECORDS = {"r": {"values": {"all": {"pass@2": 0.21456}, "n": 1234.5}, "table": [{"a": "1", "b": "x|y"}]}}


def test_figures_are_those_of_their_record(tmp_path: Path) -> None:
    good = "It solves 21.5 %<!-- = r all/pass@2 --> in 1,234.5<!-- = r n --> s.\n\n```text\n99 %\n```\n"
    assert list(figures.faults_of_figures(page(tmp_path, good), RECORDS)) == []
    bad = "21.4 %<!-- = r all/pass@2 -->\n0.2<!-- = r all/pass@9 -->\n0.2<!-- = s all -->\nsome 30 % more\n"
    found = list(figures.faults_of_figures(page(tmp_path, bad), RECORDS))
    assert [line for line, _ in found] == [1, 2, 3, 4]
    assert "21.5 % is recorded" in found[0][1] and "names no record" in found[3][1]


def test_tables_are_filled_in_from_their_record(tmp_path: Path) -> None:
    text = "before\n\n<!-- table: r -->\nold 10 %\n<!-- /table -->\n\nafter\n"
    made = page(tmp_path, text)
    assert ["not the recorded one" in fault for _, fault in figures.faults_of_figures(made, RECORDS)] == [True]
    assert figures.write_tables(made.path, RECORDS) and not figures.write_tables(made.path, RECORDS)
    filled = read_page(made.path)
    assert list(figures.faults_of_figures(filled, RECORDS)) == []
    assert "| a | b |\n| --- | --- |\n| 1 | x\\|y |" in filled.text and filled.text.startswith("before") and filled.text.endswith("after\n")


def test_a_record_says_what_it_is_of_and_is_of_packaged_weights() -> None:
    about = {"what": "w", "command": "c", "machine": "m", "date": "2026-01-01"}
    assert list(figures.faults_of_records({"r": {"about": about, "weights": "ab"}, "s": {"about": about, "weights": None}}, {"ab"})) == []
    records: dict[str, dict[str, Any]] = {"r": {"about": {}, "weights": "cd"}, "s": {"about": about}}
    assert [fault.split(": ")[1] for fault in figures.faults_of_records(records, {"ab"})] == [
        "about says nothing of what, command, machine, date",
        "of weights that are not in the package",
        "no weights are named",
    ]
