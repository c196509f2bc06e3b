"""Run a command without a network and under a hard time limit, watching its memory.

Linux namespaces do both where the system allows them: a network namespace holds nothing but its own loopback, and a process
namespace dies as a whole with its first process, so that no kernel or worker outlives the limit. Elsewhere the network stays
connected (`isolation()` says so) and the process tree is killed one by one.
"""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit status (None: killed at the limit), seconds, most bytes of memory in use by the tree at once."""

    status: int | None
    seconds: float
    peak_memory: int


@cache
def isolation() -> tuple[str, ...] | None:
    """Command words that cut the network off, or None where the system has or allows no such namespaces."""
    spaces = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
    for words in (spaces, (*spaces, "--map-root-user")):
        try:
            if subprocess.run([*words, "true"], capture_output=True, timeout=10).returncode == 0:
                return words
        except (OSError, subprocess.TimeoutExpired):
            continue
    return None


def run_limited(
    command: Sequence[str],
    limit: float,
    *,
    env: Mapping[str, str],
    cwd: Path,
    on_line: Callable[[str], None],
    on_tick: Callable[[float], None],
) -> Outcome:
    """Run `command` for at most `limit` seconds, then kill everything it started.

    `on_line` gets each line it prints, `on_tick` the seconds so far, about twice a second. Prefix `isolation()` to cut the network.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        env=dict(env),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    peak, elapsed, status = 0, 0.0, None
    try:
        while status is None and elapsed < limit:
            time.sleep(0.5)
            peak = max(peak, _tree_memory(process.pid))
            status, elapsed = process.poll(), time.monotonic() - start
            _drain(lines, on_line)
            on_tick(elapsed)
    finally:  # also when the user interrupts
        _kill_tree(process)
    reader.join(2.0)
    _drain(lines, on_line)
    return Outcome(status, elapsed, peak)


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line.rstrip("\n"))


def _drain(lines: queue.SimpleQueue[str], on_line: Callable[[str], None]) -> None:
    while not lines.empty():
        on_line(lines.get())


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _tree_memory(pid: int) -> int:
    """Bytes in use by a process and its descendants; memory that they share is counted once where the system tells (PSS)."""
    total = 0
    for process in _tree(pid):
        try:
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
        except psutil.Error:
            continue
    return total


def _kill_tree(process: subprocess.Popen[str]) -> None:
    for member in _tree(process.pid):
        try:
            member.kill()
        except psutil.Error:
            continue
    process.wait()
