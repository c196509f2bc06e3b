"""A page's blocks, run in order in a folder that looks like a clone, and what they printed compared with what the page shows."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.docs.page import Block, Page
from lab.docs.still import ROOT

LIMIT, SLOW_LIMIT = 240, 3600
"""Seconds that a block may take."""

SHARED = {".venv", ".cache", "offline_wheels"}
"""What is large and not changed: a folder to run in has a link to it, and a copy of everything else, which a page may change."""
APART = {".git", "runs", "build", "dist", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
"""What a folder to run in does not share with the clone."""


def faults_of_runs(page: Page, everything: bool) -> Iterator[tuple[int, str]]:
    """Blocks that fail, and shown output that was not printed. Blocks marked as slow run only with `everything`."""
    with TemporaryDirectory(prefix="hrm-docs-") as name:
        folder = Path(name)
        lay_out(folder)
        said: str | None = None
        for block in page.blocks:
            if block.kind == "file":
                target = folder / block.detail
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.text, encoding="utf-8")
            elif block.kind == "output":
                if said is not None:
                    yield from _compared(block, said)
            elif block.kind in ("run", "fails") or (block.kind == "slow" and everything):
                status, said = run_block(block, folder, SLOW_LIMIT if block.kind == "slow" else LIMIT)
                if status != (int(block.detail) if block.kind == "fails" else 0):
                    yield block.line, f"exit status {status}: {' / '.join(said.strip().splitlines()[-3:])}"
            else:
                said = None


def lay_out(folder: Path) -> None:
    """Make `folder`, which is empty, look like the clone."""
    for entry in ROOT.iterdir():
        if entry.name in SHARED:
            (folder / entry.name).symlink_to(entry)
        elif entry.is_dir() and entry.name not in APART:
            shutil.copytree(entry, folder / entry.name)
        elif entry.is_file():
            shutil.copy2(entry, folder / entry.name)


def run_block(block: Block, folder: Path, limit: float) -> tuple[int | str, str]:
    """Exit status and everything that a block printed, run by sh or by Python in `folder`."""
    text = block.replaced
    command = [sys.executable, "-"] if block.language == "python" else ["sh", "-e", "-s"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # Where make runs this, the variables of its command line would be those of every make that a page calls.
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "ARGS")}
    environment = {**inherited, "PATH": path, "PYTHONPATH": str(folder), "COLUMNS": "200", "MPLBACKEND": "agg"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(text, timeout=limit)
        return process.returncode, said
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return f"none within {limit} s", process.communicate()[0]


def _compared(block: Block, said: str) -> Iterator[tuple[int, str]]:
    printed = {_shape(line) for line in said.splitlines()}
    for line in block.text.splitlines():
        if line.strip() not in ("", "...") and _shape(line) not in printed:
            yield block.line, f"shows a line that was not printed: {line.strip()}"


def _shape(line: str) -> str:
    """A line without its numbers and the width of its gaps."""
    return " ".join(re.sub(r"[-+]?\d[\d,.]*", "#", line).split())
