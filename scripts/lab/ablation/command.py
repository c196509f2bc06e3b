"""A plan carried out: what is missing is run, each result kept as it comes, and the table written beside the plan."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from kaggle_kit.places import RUNS

from hrm_submit.core.clock import format_duration
from hrm_submit.core.errors import ConfigError
from hrm_submit.core.files import write_atomic
from lab.ablation.parallel import Figures, run_all
from lab.ablation.picture import draw
from lab.ablation.plan import Plan, read_plan
from lab.ablation.results import append, read
from lab.ablation.runs import Run, plan_runs
from lab.ablation.table import summary
from lab.markdown import to_markdown


def ablate(args: argparse.Namespace) -> int:
    """Run and show what the options say; 1 where a run failed. Raises UserError."""
    if args.parallel < 1:
        raise ConfigError(f"--parallel must be at least 1, not {args.parallel}")
    plan, results = read_plan(args.plan), args.plan.with_suffix(".csv")
    runs = plan_runs(plan)
    chosen = only(runs, args.only) if args.only else runs
    there = set(read(results, runs)["key"])
    failures = 0
    if not (args.show or args.plot):
        missing = [run for run in chosen if run.key not in there]
        tell(f"{plan.path.name}: {len(chosen) - len(missing)} of {len(chosen)} runs are there")
        # Of variants that come to the same, one run serves all.
        todo = [run for n, run in enumerate(missing) if run.key not in {earlier.key for earlier in missing[:n]}]
        failures = do(todo, args.parallel, args.runs or RUNS / "ablate" / args.plan.stem, results, args.cluster)
    show(plan, read(results, runs), len(runs), write=not args.show)
    return 1 if failures else 0


def only(runs: Sequence[Run], names: str) -> list[Run]:
    """The runs of the variants `"a,b"`. Raises ConfigError for one that the plan does not have."""
    wanted = [name.strip() for name in names.split(",")]
    known = dict.fromkeys(run.variant for run in runs)
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--only {name}: no such variant; known: {', '.join(known)}")
    return [run for run in runs if run.variant in wanted]


def do(todo: Sequence[Run], parallel: int, folder: Path, results: Path, cluster: str = "") -> int:
    """Run what is missing, each result kept as it comes, here or on the machines of a `cluster`; returns how many failed."""
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

    try:
        if cluster and todo:
            from lab.ablation.spread import run_on_cluster

            run_on_cluster(todo, cluster, folder, done, failed)
        else:
            run_all(todo, parallel, folder, done, failed)
    except KeyboardInterrupt:
        tell("what was finished is kept")
        raise
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
