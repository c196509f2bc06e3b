"""Check a CUDA machine in about ten minutes: one table, one JSON file, and which preset keys to turn on there.

    python scripts/gpu_check.py                                  # all steps on the first GPU
    python scripts/gpu_check.py numbers speed --json figures.json
    python scripts/gpu_check.py solve --challenges arc-agi_evaluation_challenges.json

Each step runs in a process of its own with a time limit, so a step that crashes or hangs fails alone. Without --challenges the
tasks are made up. Exits 2 where there is no GPU, 1 where a check failed.

steps:
  machine   card, driver, cores; time of a launch, matrix-product and copy rates
  numbers   loss, gradients and 20 updates against float32 on the CPU: formats, attentions, sides 3 to 30, nano and hrm-27m
  speed     examples/s at batch 8, 32, 96: eager, compiled, recorded, both, the published way compiled; launches and waits a segment
  waits     ten segments under torch's check that nothing waits for the device
  memory    peak memory of a segment against what the plan reckons with
  workers   examples/s of 1, 2 and 4 processes on one card
  oom       memory that runs out: the batch is halved and the task answered
  compiler  a compiler that is missing or fails in each way: the task is answered
  solve     12 tasks in two minutes: valid and in time; fixed work twice: equal or not
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
    parser.add_argument("--challenges", type=Path, metavar="F", help="tasks of `solve` (default: made up)")
    parser.add_argument("--quick", action="store_true", help="the shortest form of each step, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="F", help="write all figures")
    args = parser.parse_args(argv)
    from lab.gpu.check import check

    return exit_status("gpu_check", lambda: check(args))


if __name__ == "__main__":
    sys.exit(main())
