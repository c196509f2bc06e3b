"""README and docs/: figures are the recorded ones, links lead somewhere, the site builds, the code blocks run, and faults are found.

A mark, an HTML comment on the line before a code block, says what becomes of it. The blocks of a page run in order, in one folder that
looks like a clone. Every block of `sh`, `python` and `toml` needs one:

    <!-- run: 8m = 15s, 400 = 2 -->     run, with these texts replaced; its exit status must be 0
    <!-- fails: 2 -->                   run, and must exit with this status
    <!-- not run: needs a GPU -->       only its options are checked
    <!-- file: mine.toml -->            written to this file, for the blocks after it
    <!-- output -->                     what the block before it prints: each line must be among the printed ones, numbers apart
"""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docs_check
import pytest
from docs_check import ROOT, faults_of_page, faults_of_records, headings, write_tables
from sybil import Document, Example, Region, Sybil
from sybil.parsers.abstract.lexers import BlockLexer

from hrm_submit.core.files import sha256_of
from hrm_submit.model.packaged import CHECKPOINTS
from tests.report.conftest import browser  # noqa: F401

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
QUICK = {"augmentation.md", "run-folder.md"}
BLOCK = BlockLexer(
    re.compile(r"^ *<!-- (?P<kind>[a-z ]+?)(?:: (?P<detail>.*?))? -->\n(?P<prefix> *)```(?P<language>\w+)\n", re.MULTILINE), "{prefix}```"
)
UNMARKED = re.compile(r"(?m)^(?! *<!-- .* -->$).*\n *```(?:sh|python|toml)$")
SHARED = {".venv", ".cache", "offline_wheels"}
APART = {".git", "runs", "build", "dist", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}


def blocks(document: Document) -> Iterator[Region]:
    """Find the marked code blocks."""
    for found in BLOCK(document):
        yield Region(found.start, found.end, found.lexemes, evaluate)


def evaluate(example: Example) -> None:
    """Do with a block what its mark says."""
    block, folder = example.parsed, example.namespace["folder"]
    kind, detail, text = block["kind"], block["detail"] or "", str(block["source"])
    if kind == "file":
        (folder / detail).parent.mkdir(parents=True, exist_ok=True)
        (folder / detail).write_text(text, encoding="utf-8")
    elif kind == "output":
        said = example.namespace.get("said")  # None after a block that is not run
        printed = {shape(line) for line in (text if said is None else said).splitlines()}
        assert [line for line in text.splitlines() if line.strip() not in ("", "...") and shape(line) not in printed] == []
    elif kind in ("run", "fails"):
        for change in filter(None, detail.split(", ") if kind == "run" else ()):
            before, _, after = change.partition(" = ")
            assert before in text, f"{before!r}, which its mark replaces, is not in it"
            text = text.replace(before, after)
        status, said = run_block(block["language"], text, folder)
        assert status == (int(detail) if kind == "fails" else 0), said
        example.namespace["said"] = said
    else:
        assert kind == "not run", f"a mark says {kind!r}"
        example.namespace["said"] = None


def shape(line: str) -> str:
    """Return a line without its numbers and the width of its gaps."""
    return " ".join(re.sub(r"[-+]?\d[\d,.]*", "#", line).split())


def run_block(language: str, text: str, folder: Path) -> tuple[int, str]:
    """Run a block in `folder`; exit status and everything that it printed."""
    command = [sys.executable, "-"] if language == "python" else ["sh", "-e", "-s"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # Variables of a make that runs this would reach every make that a page calls.
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "ARGS")}
    environment = {**inherited, "PATH": path, "PYTHONPATH": str(folder), "COLUMNS": "200", "MPLBACKEND": "agg"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=folder, env=environment, input=text, timeout=1800, check=False, **pipes)
    return done.returncode, done.stdout


def examples(page: Path, folder: Path) -> Iterator[Example]:
    """Return the marked blocks of a page, to be evaluated in a copy of the clone at `folder`."""
    folder.mkdir()
    for entry in ROOT.iterdir():
        if entry.name in SHARED:
            (folder / entry.name).symlink_to(entry)
        elif entry.name not in APART:
            shutil.copytree(entry, folder / entry.name) if entry.is_dir() else shutil.copy2(entry, folder / entry.name)
    document = Sybil([blocks]).parse(page)
    document.namespace["folder"] = folder
    return iter(document.examples())


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [pytest.param(p, id=name(p), marks=[pytest.mark.slow] * (p.name not in QUICK)) for p in PAGES])
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    for example in examples(page, tmp_path / "clone"):
        example.evaluate()


def test_a_block_that_fails_or_prints_something_else_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    good = "<!-- run: 3 = 5 -->\n```python\nprint('is', 3)\n```\n\n<!-- output -->\n```text\nis   7\n```\n"
    good += "\n<!-- fails: 3 -->\n```sh\nexit 3\n```\n"
    page.write_text(good + "\n<!-- output -->\n```text\ntwo\n```\n\n<!-- run -->\n```sh\nfalse\n```\n")
    *fine, output, failing = examples(page, tmp_path / "clone")
    for example in fine:
        example.evaluate()
    for example in (output, failing):
        with pytest.raises(AssertionError):
            example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_is_marked_and_commands_that_are_not_run_have_their_options(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert UNMARKED.findall(text) == []
    for block in (example.parsed for example in Sybil([blocks]).parse(page).examples()):
        if (block["kind"], block["language"]) == ("not run", "sh"):
            for line in re.sub(r"\\\n|#.*", " ", str(block["source"])).splitlines():
                assert unknown(line.split()) == []


def unknown(line: list[str]) -> list[str]:
    """Return the options of a command line, and the targets of make, that do not exist."""
    if line[:1] == ["make"]:
        targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
        return [word for word in line[1:2] if word not in targets]
    for start, length in ((["hrm-submit"], 2), (["python", "-m", "hrm_submit"], 4), (["python"], 2)):
        if line[: len(start)] == start and (length > 2 or start != ["python"] or line[1].startswith("scripts/")):
            command = ["-m", "hrm_submit", line[length - 1]] if start != ["python"] else [line[1]]
            return [word for word in line[length:] if word.startswith("--") and word not in shown_help(*command)]
    return []


@functools.cache
def shown_help(*command: str) -> set[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}", "COLUMNS": "200"}
    done = subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return set(re.findall(r"--[\w-]+", done.stdout))


def test_links_names_and_figures_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs_check.main([]) == 0, capsys.readouterr().out


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, which is built without a warning."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_is_built_and_has_every_page(site: Path) -> None:
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [p for p in PAGES[1:] if f" {p.relative_to(ROOT / 'docs').as_posix()}\n" not in listed] == []


def test_the_site_is_searched_from_disk_and_loads_nothing_from_elsewhere(site: Path, browser: Any) -> None:  # noqa: F811
    page, asked = browser.new_page(), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "extend" / "preset.html").as_uri())
    page.locator("input[name=query]").click()
    page.keyboard.type("voting rule")
    assert "Add a voting rule" in page.locator(".md-search-result__link").first.inner_text()
    assert [url for url in asked if not url.startswith("file:")] == []
    page.close()


RECORDS = {"r": {"values": {"all": {"pass@2": 0.21456}, "n": 1234.5}, "table": [{"a": "1", "b": "x|y"}]}}


def faults(folder: Path, text: str) -> list[str]:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return list(faults_of_page(path, RECORDS))


def test_links_and_names_lead_somewhere_by_the_anchors_of_github(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One `code` head, and more\n", encoding="utf-8")
    good = "[a](other.md) [b](other.md#one-code-head-and-more) [c](https://example.org) `scripts/ablate.py` `tests/*/test_act.py`\n"
    found = faults(tmp_path, f"{good}[d](gone.md)\n[e](other.md#two)\n`scripts/gone.py`\n")
    assert [fault.split(":")[0] for fault in found] == ["2", "3", "4"]
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
