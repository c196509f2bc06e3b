"""Pages with faults in them, each named with its line; a page without any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from docs_check import faults_of_page, faults_of_records, headings, write_tables

from hrm_submit.core.files import sha256_of
from hrm_submit.model.packaged import CHECKPOINTS

RECORDS = {"r": {"values": {"all": {"pass@2": 0.21456}, "n": 1234.5}, "table": [{"a": "1", "b": "x|y"}]}}


def faults(folder: Path, text: str) -> list[str]:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return list(faults_of_page(path, RECORDS))


def test_links_and_names_lead_somewhere(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One `code` head, and more\n", encoding="utf-8")
    good = "[a](other.md) [b](other.md#one-code-head-and-more) [c](https://example.org) `scripts/ablate.py` `tests/*/test_act.py`\n"
    found = faults(tmp_path, f"{good}[d](gone.md)\n[e](other.md#two)\n`scripts/gone.py`\n")
    assert [fault.split(":")[0] for fault in found] == ["2", "3", "4"]


def test_anchors_are_those_of_github() -> None:
    assert headings("# `solve`: what it *does*\n\n```sh\n# no heading\n```\n## A-B c\n") == {"solve-what-it-does", "a-b-c"}


def test_figures_are_those_of_their_record(tmp_path: Path) -> None:
    assert faults(tmp_path, "It solves 21.5 %<!-- = r all/pass@2 --> in 1,234.5<!-- = r n --> s.\n\n```text\n99 %\n```\n") == []
    bad = "21.4 %<!-- = r all/pass@2 -->\n0.2<!-- = r all/pass@9 -->\n0.2<!-- = s all -->\nsome 30 % more\n"
    found = faults(tmp_path, bad)
    assert [fault.split(":")[0] for fault in found] == ["1", "2", "3", "4"]
    assert "21.5 % is recorded" in found[0] and "names no record" in found[3]


def test_tables_are_filled_in_from_their_record(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "before\n\n<!-- table: r -->\nold 10 %\n<!-- /table -->\n\nafter\n")
    assert "not the recorded one" in fault
    path = tmp_path / "page.md"
    write_tables(path, RECORDS)
    filled = path.read_text(encoding="utf-8")
    assert faults(tmp_path, filled) == [] and filled.startswith("before") and filled.endswith("after\n")
    assert "| a | b |\n| --- | --- |\n| 1 | x\\|y |" in filled


ABOUT = dict.fromkeys(("what", "command", "machine", "date"), "x")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"about": {}, "weights": None}, ["about says nothing of what, command, machine, date"]),
        ({"about": ABOUT, "weights": "cd"}, ["of weights that are not in the package"]),
        ({"about": ABOUT, "weights": [sha256_of(CHECKPOINTS / "nano.safetensors"), "cd"]}, ["of weights that are not in the package"]),
        ({"about": ABOUT, "weights": [sha256_of(CHECKPOINTS / "nano.safetensors")]}, []),
        ({"about": ABOUT}, ["no weights are named"]),
        ({"about": ABOUT, "weights": None}, []),
    ],
)
def test_a_record_says_what_it_is_of_and_is_of_packaged_weights(record: dict[str, Any], said: list[str]) -> None:
    assert [fault.split(": ")[1] for fault in faults_of_records({"r": record})] == said
