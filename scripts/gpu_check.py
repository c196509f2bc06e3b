"""Check what a CUDA card does with the kit in about five minutes: a table, a verdict in words, and a JSON file if asked.

    python scripts/gpu_check.py                               # all steps on the first GPU
    python scripts/gpu_check.py engine speed --json figures.json

Each step runs in a process of its own with a time limit, so that a step that crashes or hangs fails alone. Exits 2 where there is no
GPU, 1 where a step failed.

steps, with the seconds that they are expected to take and may take:
  engine   80, 180  choose engine and number format as a run does, with a task of ARC-AGI-1; plain float32 against the CPU's
  speed    60, 120  examples/s of that choice beside the published way compiled, and the rate of matrix products
  workers  60, 100  examples/s of 1, 2 and 4 processes at once
  memory   25, 60   peak of a segment against the plan; memory that runs out: the batch is halved and the task answered
  killed   50, 120  12 tasks, and again with a worker killed: valid files, equal or not
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hrm_submit.cli import exit_status


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help="which steps (default: all)")
    parser.add_argument("--device", default="cuda:0", metavar="cuda:0", help="which GPU; `cpu` rehearses the steps in their shortest form")
    parser.add_argument("--json", type=Path, metavar="F", help="write all figures")
    args = parser.parse_args(argv)
    from lab.gpu_check import check

    return exit_status("gpu_check", lambda: check(args))


if __name__ == "__main__":
    sys.exit(main())
