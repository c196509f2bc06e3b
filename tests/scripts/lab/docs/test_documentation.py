"""README and docs/ themselves: nothing that can be seen without running is wrong, and the examples of docs/extend/ run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab.docs.check import pages_of, still_faults
from lab.docs.figures import faults_of_records, packaged, read_ablations, read_records
from lab.docs.page import read_page
from lab.docs.run import faults_of_runs
from lab.docs.still import ROOT

RECORDS = read_records()
PAGES = pages_of([])
EXAMPLES = [*sorted((ROOT / "docs" / "extend").glob("*.md")), ROOT / "docs" / "run-folder.md"]
LONG = {"preset.md", "data-set.md", "voting-rule.md"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_marks_links_names_options_and_figures(path: Path) -> None:
    assert list(still_faults(read_page(path), RECORDS | read_ablations())) == []


@pytest.mark.parametrize("path", [pytest.param(p, id=name(p), marks=[pytest.mark.slow] * (p.name in LONG)) for p in EXAMPLES])
def test_its_examples_run(path: Path) -> None:
    page = read_page(path)
    assert any(block.kind == "run" for block in page.blocks)
    assert list(faults_of_runs(page, everything=False)) == []


def test_records_are_of_the_packaged_weights() -> None:
    assert list(faults_of_records(RECORDS, packaged())) == []


def test_every_page_is_in_the_site() -> None:
    told = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [p for p in PAGES[1:] if f" {p.relative_to(ROOT / 'docs').as_posix()}\n" not in told] == []


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "how-it-works" / "index.html").is_file()
