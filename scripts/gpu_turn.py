"""Use some minutes of one GPU by a plan: pre-train, then solve a sample of both evaluation sets, score, export, report.

    python scripts/gpu_turn.py --minutes 12 --out turn --from exports/undecayed
    python scripts/gpu_turn.py --minutes 6 --out turn --preset tiny.toml --devices cpu --data F --sets F:1 --train-share 0.5

Pre-training continues from the weights of --from, or starts from random ones. The rest is test-time training on a
stratified sample: of the tasks of a set, by size, every N-th. Each set gets its part of the seconds by its number of tasks.

What is to be kept is in OUT/back: `turn.json`, the reports, and the weights in bfloat16, in parts of at most 15 MiB: `undecayed` to
continue from and `final` to solve with. A killed turn resumes in the same folder with the minutes that are left.

Exit 0; 1 where no set could be scored; 2 for bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hrm_submit.cli import exit_status


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, metavar="T", help="of the machine, in all")
    parser.add_argument("--out", type=Path, required=True, metavar="D")
    parser.add_argument("--from", dest="start_from", type=Path, metavar="F", help="weights to continue from (default: random ones)")
    parser.add_argument("--preset", default="gpu-small", metavar="NAME[,NAME]", help="(default: %(default)s)")
    parser.add_argument("--data", default="arc-agi-1-training,conceptarc,re-arc:2", metavar="SPEC,...", help="(default: %(default)s)")
    parser.add_argument(
        "--sets",
        default="arc-agi-1-evaluation:10,arc-agi-2-evaluation:6",
        metavar="NAME|F:N,...",
        help="what to solve: of each set every N-th task by size (default: %(default)s)",
    )
    parser.add_argument("--train-share", type=float, default=0.6, metavar="X", help="of the time for pre-training (default: %(default)s)")
    parser.add_argument("--devices", default="auto", metavar="auto|cpu|cuda:0")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    from lab.gpu.turn import turn

    return exit_status("gpu_turn", lambda: turn(args))


if __name__ == "__main__":
    sys.exit(main())
