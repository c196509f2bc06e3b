"""A small share of `make fuzz`, and whether it sees what breaks a rule."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fuzz
import pytest
from lab.fuzz import run
from lab.fuzz.kinds import KINDS, Kind

from hrm_submit.core.errors import DataError

KILLED = Path(__file__).parents[3] / "solve" / "data" / "killed-0.1.0"


def killed_run(folder: Path) -> None:
    for file in KILLED.rglob("*"):
        if file.is_file():
            shutil.copy(file, folder / file.name)


@pytest.mark.parametrize("name", KINDS)
def test_mutated_files_are_used_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    kind = replace(KINDS[name], real=killed_run) if name == "runs" else KINDS[name]
    count = 4 if name == "runs" else 25
    found = run.fuzz_kind(name, kind, count, seed=1, keep=tmp_path / "kept")
    assert found.faults == [] and found.used + found.refused == count


def kind_that(use: Callable[[Path, Path], None]) -> Kind:
    return Kind(3, lambda folder: (folder / "a").write_text("abc") and None, lambda name: lambda data, rng: data, use)


@pytest.mark.parametrize("rule", ["traceback", "several lines", "time", "outside"])
def test_what_breaks_a_rule_is_seen_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    def use(path: Path, out: Path) -> None:
        (out / "fine").write_text("")
        match rule:
            case "traceback":
                raise ZeroDivisionError("no")
            case "several lines":
                raise DataError("one\ntwo")
            case "time":
                time.sleep(0.02)
            case "outside":
                (out.parent / "elsewhere").write_text("")

    monkeypatch.setattr(run, "MOST_SECONDS", 0.01 if rule == "time" else 5.0)
    found = run.fuzz_kind("made up", kind_that(use), 2, seed=0, keep=tmp_path)
    said = {"traceback": "ZeroDivisionError: no", "several lines": "several lines", "time": "took ", "outside": "wrote elsewhere"}[rule]
    assert found.faults and said in found.faults[0]
    assert (tmp_path / "made up-0-0" / "a").read_text() == "abc"


def test_the_command_tells_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    try:
        assert fuzz.main(["presets", "--count", "5", "--keep", str(tmp_path)]) == 0
        assert "presets" in capsys.readouterr().out
        assert fuzz.main(["nonsense"]) == 2
    finally:
        logging.disable(logging.NOTSET)
