"""Compare variants of a preset on the same tasks for the same amount: seconds of one thread, FLOPs, or examples; each with several seeds.

    python scripts/ablate.py scripts/ablations/ingredients.toml
    python scripts/ablate.py PLAN.toml --only "base,batch 32 for longer" --parallel 2

Results lie beside the plan: PLAN.csv (a line a run) and PLAN.md (the table). A finished run is not repeated, unless
its preset, tasks, amount, seed or checkpoint has changed; a stopped one of kind "ttt" goes on with its next task. A plan is
a TOML file:

    kind = "train"            # or "ttt"
    about = "..."             # a line for the table
    seconds = 720             # or flops = 1e15, or examples = 60000: of a run ("train") or of each task ("ttt")
    seeds = [0, 1, 2]
    preset = "nano"           # names as for --preset; a variant may name its own
    checkpoint = "none"       # or "packaged", or a file to start from; a variant may name its own
    clock = "cpu"             # CPU seconds of the run's process: waiting for a core that others use costs nothing; or "wall"
    device = "cpu"            # or "cuda:0", with clock = "wall"

    [tasks]                   # the demonstrations of these are trained on, their test pairs never
    data = "arc-agi-1-training"    # or a file whose solutions are in it or beside it
    max_side = 10             # drawn: 60 of those with such a canvas; ids = ["00d62c1b", ...] names those to draw from
    number = 60
    seed = 5

    [base.vote]               # changes for all variants, in the tables model, train, ttt, vote, device
    views = 24

    [[variant]]               # the first one is what the others are compared with
    name = "base"

    [[variant]]
    name = "batch 32 for longer"
    like = "base"             # a variant before it, whose settings these are laid over
    train.batch_size = 32
    amount_factor = 5.0       # times the plan's amount
    seeds = [0]

Kind "train" trains from random weights for the whole amount, the learning rate decayed to its end, and votes with each task's own
embedding row, in views that training used. Kind "ttt" gives each task its own test-time training from the same weights. Intervals are
95 % bootstrap intervals over tasks and seeds. Results in `seconds` depend on the machine, which the table names.

Exit 0; 1 where a run failed; 2 for a plan that cannot be run; 130 when interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.ablation_command import ablate

from hrm_submit.cli import exit_status
from hrm_submit.core.device import cpu_count


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, metavar="PLAN.toml")
    parser.add_argument("--parallel", type=int, default=cpu_count(), metavar="N", help="runs at a time (default: %(default)s, as cores)")
    parser.add_argument("--only", metavar="VARIANT,...", help="run only these")
    parser.add_argument("--runs", type=Path, metavar="D", help="folder for learning curves (default: runs/ablate/PLAN)")
    args = parser.parse_args(argv)
    return exit_status("ablate", lambda: ablate(args))


if __name__ == "__main__":
    sys.exit(main())
