"""Kill real runs at random moments and check that they keep their promises.

Each trial solves a few small tasks on the CPU and loses workers, the supervisor or both to SIGKILL, sometimes after a while of
SIGSTOP. A killed supervisor's command is run again. The submission is read dozens of times a second, and must always be
complete and valid; a run must end within its budget; a final answer must stay, and its task must not be solved again; no
process may be left. One line a trial; exit 0 when all held, 1 when not, 2 for bad input.

    python scripts/soak.py --trials 30 --seed 0 --budget 20s --tasks 6
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.soak import soak

from hrm_submit.cli import exit_status


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="decides who is killed when (default: %(default)s)")
    parser.add_argument("--budget", default="20s", metavar="T", help="time budget of each run (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=6, metavar="N", help="number of tasks, the smallest ones (default: %(default)s)")
    parser.add_argument("--dataset", default="arc-agi-1-evaluation", metavar="NAME|F")
    parser.add_argument("--preset", default="nano", metavar="NAME[,NAME]", help="what the runs solve with (default: %(default)s)")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="trials at a time (default: %(default)s)")
    parser.add_argument(
        "--cluster", default="", metavar="ADDRESS|auto|local", help="trials on all machines of a Ray cluster, two cores each"
    )
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="keep what the runs leave there (default: nowhere if all is well)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    return exit_status("soak", lambda: 1 if soak(args) else 0, OSError)


if __name__ == "__main__":
    sys.exit(main())
