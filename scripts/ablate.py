"""Compare variants of a preset on the same tasks for the same amount: seconds of one thread, FLOPs, or examples; each with several seeds.

    python scripts/ablate.py scripts/ablations/ingredients.toml
    python scripts/ablate.py PLAN.toml --only "base,batch 32 for longer" --parallel 2
    python scripts/ablate.py PLAN.toml --show

Results lie beside the plan: PLAN.csv (a line a run), PLAN.md (the table) and PLAN.svg. What is there already is not done again, unless
what decides it has changed: preset, tasks, amount, seed, checkpoint. A plan is a TOML file:

    kind = "train"            # or "ttt"
    about = "..."             # a line for the table
    seconds = 720             # or flops = 1e15, or examples = 60000: of a run ("train") or of each task ("ttt")
    seeds = [0, 1, 2]
    preset = "nano"           # names as for --preset; a variant may name its own
    checkpoint = "none"       # or "box", or a file to start from; a variant may name its own
    clock = "cpu"             # CPU seconds of the run's process: waiting for a core that others use costs nothing; or "wall"
    device = "cpu"            # or "cuda:0", with clock = "wall"
    data = "conceptarc:0.5"   # kind "train": more to learn from, as for pretrain's --data; a variant may name its own

    [tasks]                   # the demonstrations of these are trained on, their test pairs never
    data = "arc-agi-1-training"    # or challenges = "F" and solutions = "F"
    max_side = 10             # drawn: 60 of those with such a canvas; or ids = ["00d62c1b", ...]
    number = 60
    seed = 5

    [evaluate]                # kind "train": measure on these instead, which share no pair with what is trained on; keys as [tasks]

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
embedding row, in views that training used; tasks that were not trained on start from the mean row. Kind "ttt" gives each task its own
test-time training from the same weights. Intervals are 95 % bootstrap intervals over tasks and seeds.

Exit 0; 1 where a run failed; 2 for a plan that cannot be run; 130 when interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from kaggle_kit.places import RUNS
from lab.ablation.parallel import Figures, run_all
from lab.ablation.picture import draw
from lab.ablation.plan import Plan, read_plan
from lab.ablation.results import append, read
from lab.ablation.runs import Run, plan_runs
from lab.ablation.table import summary
from lab.markdown import to_markdown

from hrm_submit.core.clock import format_duration
from hrm_submit.core.device import cpu_count
from hrm_submit.core.errors import ConfigError, UserError
from hrm_submit.core.files import write_atomic


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, metavar="PLAN.toml")
    parser.add_argument("--parallel", type=int, default=cpu_count(), metavar="N", help="runs at a time (default: the cores, %(default)s)")
    parser.add_argument("--only", metavar="VARIANT,...", help="run these alone")
    parser.add_argument("--runs", type=Path, metavar="D", help="folder for learning curves and the like (default: runs/ablate/PLAN)")
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--show", action="store_true", help="run nothing, print the table of what is there")
    alone.add_argument("--plot", action="store_true", help="run nothing, write PLAN.md and PLAN.svg anew")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    results = args.plan.with_suffix(".csv")
    try:
        plan = read_plan(args.plan)
        runs = plan_runs(plan)
        if args.parallel < 1:
            raise ConfigError(f"--parallel must be at least 1, not {args.parallel}")
        chosen = only(runs, args.only) if args.only else runs
        there = set(read(results, runs)["key"])
        failures = 0
        if not (args.show or args.plot):
            missing = [run for run in chosen if run.key not in there]
            tell(f"{plan.path.name}: {len(chosen) - len(missing)} of {len(chosen)} runs are there")
            # Of variants that come to the same, one run serves all.
            todo = [run for n, run in enumerate(missing) if run.key not in {earlier.key for earlier in missing[:n]}]
            failures = do(todo, args.parallel, args.runs or RUNS / "ablate" / args.plan.stem, results)
        rows = read(results, runs)
        show(plan, rows, len(runs), write=not args.show)
    except UserError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        tell("interrupted; what was finished is kept")
        return 130
    return 1 if failures else 0


def only(runs: Sequence[Run], names: str) -> list[Run]:
    """The runs of the variants `"a,b"`. Raises ConfigError for one that the plan does not have."""
    wanted = [name.strip() for name in names.split(",")]
    known = dict.fromkeys(run.variant for run in runs)
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--only {name}: no such variant; known: {', '.join(known)}")
    return [run for run in runs if run.variant in wanted]


def do(todo: Sequence[Run], parallel: int, folder: Path, results: Path) -> int:
    """Run what is missing, each result kept as it comes; returns how many failed."""
    ended = failures = 0

    def done(run: Run, figures: Figures) -> None:
        nonlocal ended
        ended += 1
        line = append(results, run, figures)
        took = format_duration(line["seconds"]) + (" a task" if run.kind == "ttt" else "")
        tell(f"[{ended}/{len(todo)}] {run.variant}, seed {run.seed}: pass@1 {line['pass@1']:.1%}, pass@2 {line['pass@2']:.1%}, {took}")

    def failed(run: Run, fault: str) -> None:
        nonlocal ended, failures
        ended, failures = ended + 1, failures + 1
        tell(f"[{ended}/{len(todo)}] {run.variant}, seed {run.seed}: failed: {fault}")

    run_all(todo, parallel, folder, done, failed)
    return failures


def show(plan: Plan, rows: pd.DataFrame, total: int, *, write: bool) -> None:
    """Print the table; `write` it and its picture beside the plan."""
    if rows.empty:
        print("no results yet")
        return
    table = summary(rows)
    print(table.to_string(index=False))
    if write:
        write_atomic(plan.path.with_suffix(".md"), describe(plan, rows, total) + to_markdown(table) + "\n")
        draw(rows, plan.about or plan.path.stem, plan.path.with_suffix(".svg"))


def describe(plan: Plan, rows: pd.DataFrame, total: int) -> str:
    """What the table is of, for a person."""
    tasks = len(str(rows["results"].iloc[0]).split())
    each = {"seconds": f"{format_duration(plan.amount)} ({plan.clock} time)", "flops": f"{plan.amount:.3g} FLOPs"}
    amount = each.get(plan.unit, f"{plan.amount:,.0f} examples") + (" a task" if plan.kind == "ttt" else " a run")
    if any(variant.amount_factor != 1 for variant in plan.variants):
        amount += ", times the factor of a variant that has one"
    missing = f" {total - len(rows)} of {total} runs are missing." if len(rows) < total else ""
    machines = "; ".join(sorted(set(rows["machine"])))
    return (
        f"# {plan.about or plan.path.stem}\n\n`{plan.path.name}`: {tasks} tasks, {amount}; one thread a run, on {machines}. "
        f"Means over seeds, with 95 % bootstrap intervals over tasks and seeds.{missing}\n\n"
    )


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
