"""A Markdown page as the checks see it: code blocks with what their marks say, links, file names, quoted figures.

A mark is an HTML comment, which no reader sees, on the line before a code block:

    <!-- run -->                        run in the check; its exit status must be 0
    <!-- run: 8m = 15s, 400 = 2 -->     the same, with these texts put in place of others, so that it ends soon
    <!-- fails: 2 -->                   run, and must exit with this status
    <!-- slow: 8m = 15s -->             run only by `docs_check.py --all`
    <!-- not run: needs a GPU -->       only its options are checked
    <!-- file: mine.toml -->            written to this file, for the blocks after it
    <!-- output -->                     what the block before it prints: each line must be among the printed ones, numbers apart

Every block of `sh`, `python` and `toml` needs one. The blocks of a page run in order, in one folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MARKED = ("sh", "python", "toml")
KINDS = ("run", "fails", "slow", "not run", "file", "output")
FENCE = re.compile(r"^( *)```(\S*)\s*$")
MARK = re.compile(r"^\s*<!-- ([a-z ]+?)(?:: (.*?))? -->\s*$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FIGURE = re.compile(r"([-+]?\d[\d,]*(?:\.\d+)?)( ?%)?<!-- = ([\w./-]+) ([^>]+?) -->")
SHARE = re.compile(r"\d ?%(?!<!-- = )")
NAME = re.compile(r"`((?:hrm_submit|scripts|docs|tests|notebook|examples|offline_wheels|\.ci)/[\w./*-]*)`")
TABLE = re.compile(r"<!-- table: ([\w.-]+) -->\n(.*?)<!-- /table -->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced code block; `kind` and `detail` are those of its mark, empty without one. `line`: of its first line of text."""

    line: int
    language: str
    text: str
    kind: str = ""
    detail: str = ""

    @property
    def replaced(self) -> str:
        """The text as it is run: with what the mark puts in place of other text. Raises ValueError where that is not there."""
        text = self.text
        for change in filter(None, self.detail.split(", ")) if self.kind in ("run", "slow") else ():
            before, _, after = change.partition(" = ")
            if before not in text:
                raise ValueError(f"its mark replaces {before!r}, which is not in it")
            text = text.replace(before, after)
        return text


@dataclass(frozen=True)
class Page:
    """`prose`: the text with every code block and generated table blanked, line by line."""

    path: Path
    text: str
    blocks: tuple[Block, ...]
    prose: str
    tables: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines of the prose, numbered from 1."""
        return enumerate(self.prose.split("\n"), 1)


def read_page(path: Path) -> Page:
    """The page in a file."""
    text = path.read_text(encoding="utf-8")
    blocks, prose = [], text.split("\n")
    lines, at = list(prose), 0
    while at < len(lines):
        opened = FENCE.match(lines[at])
        if opened is None:
            at += 1
            continue
        end = next((n for n in range(at + 1, len(lines)) if lines[n].strip() == "```"), len(lines))
        mark = MARK.match(lines[at - 1]) if at else None
        indent = len(opened[1])
        body = "\n".join(line[indent:] for line in lines[at + 1 : end]) + "\n"
        blocks.append(Block(at + 2, opened[2], body, *(mark[1], mark[2] or "") if mark else ()))
        prose[at : end + 1] = [""] * len(prose[at : end + 1])
        at = end + 1
    plain = TABLE.sub(lambda found: re.sub(r"[^\n]", "", found[0]), "\n".join(prose))
    plain = re.sub(r"(?m)^ {4,}\S.*$", "", plain)  # trees and sketches, indented
    return Page(path, text, tuple(blocks), plain, dict(TABLE.findall(text)))


def headings(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = "\n".join(line for line in re.sub(r"(?ms)^ *```.*?^ *```", "", text).split("\n"))
    found = re.findall(r"(?m)^#+ (.+)$", plain)
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).strip().replace(" ", "-") for title in found}
