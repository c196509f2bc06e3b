"""What can be checked without running anything: marks, links, file names, options of commands that are not run."""

from __future__ import annotations

import functools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lab.docs.page import KINDS, LINK, MARKED, NAME, Block, Page, headings

ROOT = Path(__file__).resolve().parents[3]


def faults_of_marks(page: Page) -> Iterator[tuple[int, str]]:
    """Blocks without a mark, and marks that say nothing known."""
    for block in page.blocks:
        if block.kind and block.kind not in KINDS:
            yield block.line, f"a mark says {block.kind!r}; known: {', '.join(KINDS)}"
        elif not block.kind and block.language in MARKED:
            yield block.line, f"a block of {block.language} without a mark, such as <!-- run -->"
        else:
            try:
                assert block.replaced
            except ValueError as error:
                yield block.line, str(error)


def faults_of_links(page: Page) -> Iterator[tuple[int, str]]:
    """Links that lead to no file or heading of the tree, and names in backticks of files that are not there."""
    for number, line in page.lines():
        for target in LINK.findall(line):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (page.path.parent / name) if name else page.path
            if not path.exists():
                yield number, f"a link to {target}, which is not there"
            elif anchor and path.suffix == ".md" and anchor not in headings(path.read_text(encoding="utf-8")):
                yield number, f"a link to {target}: no such heading"
        for name in NAME.findall(line):
            if not (ROOT / name).exists() and not any(ROOT.glob(name.rstrip("/"))):
                yield number, f"`{name}` is not there"


def faults_of_options(block: Block) -> Iterator[tuple[int, str]]:
    """Commands of a block of `sh` that are not there, and options that they do not have."""
    text = re.sub(r"\\\n", " ", block.text)
    for line in text.split("\n"):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue  # a part of a longer construction of the shell
        for part in _commands(words):
            fault = _fault(part)
            if fault:
                yield block.line, fault


def _commands(words: list[str]) -> Iterator[list[str]]:
    """The simple commands of a line, without variables set before them."""
    part: list[str] = []
    for word in [*words, "&&"]:
        if word in ("&&", "||", "|", ";", "&"):
            while part and re.match(r"\w+=", part[0]):
                part = part[1:]
            if part:
                yield part
            part = []
        else:
            part.append(word)


def _fault(words: list[str]) -> str:
    if words[0] == "make":
        targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
        missing = [word for word in words[1:] if "=" not in word and word not in targets]
        return f"make has no target {', '.join(missing)}" if missing else ""
    if words[0] == "hrm-submit" or words[:3] == ["python", "-m", "hrm_submit"]:
        rest = words[1 if words[0] == "hrm-submit" else 3 :]
        command: tuple[str, ...] = ("-m", "hrm_submit", *rest[:1])
        rest = rest[1:]
    elif words[0] == "python" and len(words) > 1 and words[1].startswith("scripts/"):
        if not (ROOT / words[1]).is_file():
            return f"{words[1]} is not there"
        command, rest = (words[1],), words[2:]
    else:
        return ""
    status, said = _help(command)
    if status:
        return f"{' '.join(command)}: {said}"
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in said.split()]
    return f"{' '.join(command)} has no option {', '.join(unknown)}" if unknown else ""


@functools.cache
def _help(command: tuple[str, ...]) -> tuple[int, str]:
    """What a command says of itself: its exit status, and the words of its help, or its complaint."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}", "COLUMNS": "200"}
    done = subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, re.sub(r"[\[\],|()=]", " ", done.stdout) if done.returncode == 0 else done.stderr.strip()
