"""What only a fresh process can tell: time to show help, to import, to the first training segment; peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from lab.bench.rows import Row, against

SCRIPTS = Path(__file__).resolve().parents[2]


def start_rows(repeats: int, device: str) -> list[Row]:
    """Seconds from the start of a process to: its help, all imports of a worker, the end of nano's first segment; caches are warm."""

    def taken(*arguments: str) -> float:
        return median(_timed(*arguments) for _ in range(repeats + 1))

    _once("start", device)
    bare, torch_alone = taken("-c", "pass"), taken("-c", "import torch")
    helped = taken("-m", "hrm_submit", "--help")
    imported = taken("-c", "import hrm_submit.run.worker")
    segment = median(_until_segment(device) for _ in range(repeats + 1))
    return [
        against("start", "hrm-submit --help", "s", helped, "an empty interpreter", bare, faster=False),
        against("start", "importing all that a worker needs", "s", imported, "importing torch", torch_alone, faster=False),
        against("start", "to the end of nano's first segment", "s", segment, "importing torch", torch_alone, faster=False),
    ]


def memory_rows(device: str, presets: Sequence[str]) -> list[Row]:
    """Peak MiB that training segments and a vote add to a process: the kit's way against the published."""
    found = []
    for name, what in [*((f"{p}, training", ("training", p)) for p in presets), ("nano, inference", ("inference",))]:
        kit, published = (max(1.0, _once(*what, way, device)["mib"]) for way in ("kit", "published"))
        found.append(against("memory", name, "MiB", kit, "published way", published, faster=False))
    return found


def _until_segment(device: str) -> float:
    began = time.time()
    return _once("start", device)["at"] - began


def _timed(*arguments: str) -> float:
    before = time.perf_counter()
    _python(*arguments)
    return time.perf_counter() - before


def _once(*arguments: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(_python("-m", "lab.bench.once", *arguments).splitlines()[-1])
    return found


def _python(*arguments: str) -> str:
    path = os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
