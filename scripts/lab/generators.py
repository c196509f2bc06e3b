"""Draw pairs with the generators of ARC-GEN (Apache-2.0), each in a process of its own under a time limit."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from hrm_submit.core.device import cpu_count

PAIRS = 100
LIMIT = 120.0
"""Seconds for the pairs of one task; some generators never end."""
LARGEST = 30
"""Largest side of a grid of ARC."""
DRAW = """
import importlib, json, random, sys
sys.path.insert(0, ".")
module = importlib.import_module("tasks.task_" + sys.argv[1])
for number in range(int(sys.argv[2])):
    random.seed(2025 + number)
    print(json.dumps(module.generate()), flush=True)
"""


def draw_all(code: Path, target: Path) -> tuple[int, list[str]]:
    """Write `target/ID.json`, a list of pairs, for each task of the repository in `code`; returns their number and the ids of those that
    gave no pair in time."""
    ids = sorted(path.stem.removeprefix("task_") for path in (code / "tasks").glob("task_*.py"))
    target.mkdir(parents=True)
    failed = []
    with ThreadPoolExecutor(cpu_count()) as threads:
        found = threads.map(lambda task: list(draw(code, task)), ids)
        for task, pairs in zip(ids, tqdm(found, total=len(ids), desc="generators", disable=None), strict=True):
            if pairs:
                (target / f"{task}.json").write_text(json.dumps(pairs, separators=(",", ":")), encoding="utf-8")
            else:
                failed.append(task)
    return len(ids) - len(failed), failed


def draw(code: Path, task: str) -> Iterator[dict[str, object]]:
    """Draw the pairs that the generator of `task` makes in time, without grids that are too large and inputs that were there before."""
    try:
        done = subprocess.run([sys.executable, "-I", "-c", DRAW, task, str(PAIRS)], cwd=code, capture_output=True, timeout=LIMIT)
        said = done.stdout
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
    seen = set()
    for line in said.splitlines():
        try:
            pair = json.loads(line)
            key, sides = json.dumps(pair["input"]), [side for grid in pair.values() for side in (len(grid), *map(len, grid))]
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # the last line of one that was stopped
        if key not in seen and min(sides) > 0 and max(sides) <= LARGEST:
            seen.add(key)
            yield {"input": pair["input"], "output": pair["output"]}
