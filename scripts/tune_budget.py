"""Plan a run before you spend it: how much training and how many votes each task gets, when it ends, which setting should score best.

It simulates the whole run in seconds, with the real planner and a fake clock. Step times come from run folders of earlier runs (`--runs`, a
rehearsal on Kaggle for example), or else from a short measurement on this machine. With `--solutions` of the recorded tasks it also
fits which share is solved after how much training, and predicts scores.

    python scripts/tune_budget.py --time-budget 8m --dataset arc-agi-1-evaluation --max-side 12 --tasks 60
    python scripts/tune_budget.py --runs rehearsal/run --challenges F --solutions S --profile l4x4 --time-budget 11h30m \\
        --vary budget.size_power=0,0.5,1 --vary vote.views=16,32,64 --output tuned.toml
    python scripts/tune_budget.py --runs rehearsal/run --challenges F --profile l4x4 --time-budget 11h30m --sizes
    python scripts/tune_budget.py --runs rehearsal/run --challenges F --replay played --faults 0.05,0.02,0.05 --time-budget 12h

Exit 0, or 2 for bad input.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.budget.tuning import tune

from hrm_submit.cli import exit_status


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-budget", required=True, metavar="T", help="time budget of the run to plan: 11h30m, 8m")
    tasks = parser.add_mutually_exclusive_group()
    tasks.add_argument("--challenges", type=Path, metavar="F", help="tasks to plan for; with --runs, those that were run")
    tasks.add_argument("--dataset", metavar="NAME|F", default="arc-agi-2-evaluation", help="tasks to plan for (default: %(default)s)")
    parser.add_argument("--max-side", type=int, default=30, help="leave out tasks with a larger canvas")
    parser.add_argument("--tasks", type=int, metavar="N", help="plan for so many tasks of such sizes (default: as many as there are)")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], metavar="D", help="run folders to learn from")
    parser.add_argument("--solutions", type=Path, metavar="F", help="solutions of the recorded tasks: predicts scores")
    parser.add_argument("--measure", default="60s", metavar="T", help="length of the measurement without --runs (default: %(default)s)")
    parser.add_argument("--preset", default="", help="preset of the measurement")
    parser.add_argument("--checkpoint", metavar="F|none", help="weights of the measurement")
    parser.add_argument("--profile", metavar="P", help="preset of the device to plan for (default: as recorded)")
    parser.add_argument("--faster", type=float, default=1.0, metavar="X", help="how much faster that device is than the recorded one")
    parser.add_argument("--vary", action="append", default=[], metavar="TABLE.KEY=V,V", help="settings to compare; may be repeated")
    parser.add_argument("--output", type=Path, metavar="F.toml", help="write the best setting as a preset")
    parser.add_argument("--csv", type=Path, metavar="F", help="write the table")
    parser.add_argument("--plot", type=Path, metavar="F.svg", help="draw what more time would give")
    parser.add_argument(
        "--reliability", type=Path, metavar="F.svg", help="draw how well what is seen of a task on its way foretells its end, and stop"
    )
    parser.add_argument(
        "--divisions", action="store_true", help="what other shares of the budget would have solved, the best ones too, and stop"
    )
    parser.add_argument("--sizes", action="store_true", help="which size of model suits the budget, its segments a task, and stop")
    parser.add_argument("--replay", type=Path, metavar="D", help="simulate one run into this run folder, for `report`")
    parser.add_argument("--faults", default="0,0,0", metavar="DIE,HANG,FAIL", help="chances of each training in --replay")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    return exit_status("tune_budget", lambda: tune(args))


if __name__ == "__main__":
    sys.exit(main())
