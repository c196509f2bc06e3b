"""Check a CUDA machine in about ten minutes: one table, one JSON file, and whether to compile there.

    python scripts/gpu_check.py                                  # all steps on the first GPU
    python scripts/gpu_check.py numbers speed --json figures.json

Each step runs in a process of its own with a time limit, so that a step that crashes or hangs fails alone. Without --challenges
the tasks are made up. Exits 2 where there is no GPU, 1 where a step failed.

steps:
  machine   card, memory, cores
  numbers   losses of ten updates against float32 on the CPU
  speed     examples/s at batch 8, 32, 96: plain, compiled, the published way
  memory    peak memory of a segment against what the plan reckons with
  oom       memory that runs out: the batch is halved and the task answered
  solve     12 tasks in two minutes: valid and in time; fixed work twice: equal or not
  killed    a worker killed at its first task: the run ends with a valid file
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hrm_submit.cli import exit_status


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help="which steps (default: all)")
    parser.add_argument("--device", default="cuda:0", metavar="cuda:0", help="which GPU; `cpu` runs the steps without one")
    parser.add_argument("--challenges", type=Path, metavar="F", help="tasks of `solve` and `killed` (default: made up)")
    parser.add_argument("--quick", action="store_true", help="the shortest form of each step, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="F", help="write all figures")
    args = parser.parse_args(argv)
    from lab.gpu_check import check

    return exit_status("gpu_check", lambda: check(args))


if __name__ == "__main__":
    sys.exit(main())
