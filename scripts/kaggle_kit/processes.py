"""Run a command under a hard time limit, without a network where the system allows it, watching its memory.

Linux namespaces cut the network off and let a process tree die as a whole with its first process. Elsewhere the network stays
connected (`isolation()` says so) and the process tree is killed one by one.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit status (None: killed at the limit), seconds, peak memory of the process tree in bytes."""

    status: int | None
    seconds: float
    peak_memory: int


@cache
def isolation() -> tuple[str, ...] | None:
    """Command words that cut the network off, or None where the system has or allows no such namespaces."""
    spaces = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
    for words in (spaces, (*spaces, "--map-root-user")):
        with suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run([*words, "true"], capture_output=True, timeout=10).returncode == 0:
                return words
    return None


def run_limited(
    command: Sequence[str],
    limit: float,
    *,
    env: Mapping[str, str],
    cwd: Path,
    on_text: Callable[[str], object],
) -> Outcome:
    """Run `command` for at most `limit` seconds, then kill everything it started.

    `on_text` gets the lines that it prints, about twice a second. Prefix `isolation()` to cut the network.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as sink, log.open(encoding="utf-8", errors="replace", newline="") as source:
            process = subprocess.Popen(
                command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
            )
            peak, seconds, status, text = 0, 0.0, None, ""
            try:
                while status is None and seconds < limit:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(min(0.5, limit))
                    peak = max(peak, _tree_memory(process.pid))
                    status, seconds = process.poll(), time.monotonic() - start
                    text += source.read()
                    whole = max(text.rfind("\n"), text.rfind("\r")) + 1  # half a line waits for its other half
                    if whole:
                        on_text(text[:whole])
                    text = text[whole:]
            finally:  # also when the user interrupts
                for member in _tree(process.pid):
                    with suppress(psutil.Error):
                        member.kill()
                process.wait()
            on_text(text + source.read())
    return Outcome(status, seconds, peak)


def _tree(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def _tree_memory(pid: int) -> int:
    """Bytes in use by a process and its descendants; shared memory counts once where the system tells (PSS)."""
    total = 0
    for process in _tree(pid):
        with suppress(psutil.Error):
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return total
