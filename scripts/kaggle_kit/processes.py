"""Run a command under a hard time limit, without a network where the system allows it.

Linux namespaces cut the network off and let a process tree die as a whole with its first process. Elsewhere the network stays
connected (`isolation()` says so) and the process tree is killed one by one.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

GONE_SECONDS = 10.0
"""How long killed processes may take to end."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit status (None: killed at the limit), and seconds."""

    status: int | None
    seconds: float


@cache
def isolation() -> tuple[str, ...] | None:
    """Command words that cut the network off, or None where the system has or allows no such namespaces."""
    spaces = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
    for words in (spaces, (*spaces, "--map-root-user")):
        with suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run([*words, "true"], capture_output=True, timeout=10).returncode == 0:
                return words
    return None


def run_limited(command: Sequence[str], limit: float, *, env: Mapping[str, str], cwd: Path, on_text: Callable[[str], object]) -> Outcome:
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
            seconds, status, text = 0.0, None, ""
            try:
                while status is None and seconds < limit:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(min(0.5, limit))
                    status, seconds = process.poll(), time.monotonic() - start
                    text += source.read()
                    whole = max(text.rfind("\n"), text.rfind("\r")) + 1  # half a line waits for its other half
                    if whole:
                        on_text(text[:whole])
                    text = text[whole:]
            finally:  # also when the user interrupts
                _kill_tree(process.pid)
                process.wait()
            on_text(text + source.read())
    return Outcome(status, seconds)


def _kill_tree(pid: int) -> None:
    """Kill a process with all that it started, and wait until what it started is gone, which may take a moment on a busy machine."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        started = root.children(recursive=True)
        for member in (root, *started):
            with suppress(psutil.Error):
                member.kill()
        psutil.wait_procs(started, timeout=GONE_SECONDS)
