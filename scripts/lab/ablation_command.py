"""Carry out a plan: run what is missing in parallel, keep each result as it comes, and write the table beside the plan."""

import argparse
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pandas as pd
from kaggle_kit.paths import RUNS

from hrm_submit.core.clock import format_duration
from hrm_submit.core.errors import ConfigError, one_line
from hrm_submit.core.files import write_atomic
from lab.ablation_plan import Plan, read_plan
from lab.ablation_results import append, read, summary
from lab.ablation_runs import Run, plan_runs
from lab.markdown import to_markdown

Figures = dict[str, Any]


def ablate(args: argparse.Namespace) -> int:
    """Do the runs that the options ask for, then show all; 1 where a run failed. Raises UserError."""
    if args.parallel < 1:
        raise ConfigError(f"--parallel must be at least 1, not {args.parallel}")
    plan, results = read_plan(args.plan), args.plan.with_suffix(".csv")
    runs = plan_runs(plan)
    chosen = only(runs, args.only) if args.only else runs
    known, failures = set(read(results, runs)["key"]), 0
    missing = [run for run in chosen if run.key not in known]
    tell(f"{plan.path.name}: {len(chosen) - len(missing)} of {len(chosen)} runs are done")
    # One run serves all variants that come to the same.
    todo = list({run.key: run for run in reversed(missing)}.values())[::-1]
    try:
        for number, (run, figures, fault) in enumerate(run_all(todo, args.parallel, args.runs or RUNS / "ablate" / args.plan.stem), 1):
            if figures is None:
                failures, told = failures + 1, f"failed: {fault}"
            else:
                line = append(results, run, figures)
                took = format_duration(line["seconds"]) + (" a task" if plan.kind == "ttt" else "")
                told = f"pass@1 {line['pass@1']:.1%}, pass@2 {line['pass@2']:.1%}, {took}"
            tell(f"[{number}/{len(todo)}] {run.variant}, seed {run.seed}: {told}")
    except KeyboardInterrupt:
        tell("finished runs are kept")
        raise
    rows = read(results, runs)
    if rows.empty:
        print("no results yet")
    else:
        table = summary(rows)
        print(table.to_string(index=False))
        write_atomic(plan.path.with_suffix(".md"), describe(plan, rows, len(runs)) + to_markdown(table) + "\n")
    return 1 if failures else 0


def only(runs: Sequence[Run], names: str) -> list[Run]:
    """Keep the runs of the variants `"a,b"`. Raises ConfigError for one that the plan does not have."""
    known = dict.fromkeys(run.variant for run in runs)
    variants = [name.strip() for name in names.split(",")]
    for name in variants:
        if name not in known:
            raise ConfigError(f"--only {name}: no such variant; known: {', '.join(known)}")
    return [run for run in runs if run.variant in variants]


def run_all(runs: Sequence[Run], parallel: int, folder: Path) -> Iterator[tuple[Run, Figures | None, str]]:
    """Do all `runs`, `parallel` at a time, in the order given, each with a folder of its own below `folder`.

    Yields each run as it ends, with its figures, or None and the fault in one line. Ends every process it started, whatever ends it.
    """
    with ThreadPoolExecutor(parallel) as threads:
        try:
            futures = {threads.submit(_run_alone, run, run_folder(folder, run)): run for run in runs}
            for future in as_completed(futures):
                try:
                    figures, fault = future.result(), ""
                except Exception as error:
                    figures, fault = None, "its process died" if isinstance(error, BrokenProcessPool) else one_line(error)
                yield futures[future], figures, fault
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.kill()


def run_folder(folder: Path, run: Run) -> Path:
    """The folder for a run's records."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", run.variant).strip("-") or "variant"
    return folder / f"{name}-{run.seed}-{run.key}"


def _run_alone(run: Run, folder: Path) -> Figures:
    """Do a run in a pool of its own: a process that dies breaks its whole pool, and so costs the other runs nothing."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_start_process) as pool:
        return pool.submit(_execute, run, folder).result()


def _execute(run: Run, folder: Path) -> Figures:
    # Only processes that train need torch: the one that waits for them and makes the table does without.
    from lab.ablation_training import execute

    return execute(run, folder)


def _start_process() -> None:
    """Leave Ctrl-C, which goes to the whole group, to the parent, and end with it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def describe(plan: Plan, rows: pd.DataFrame, total: int) -> str:
    """The text above the table."""
    tasks = len(str(rows["results"].iloc[0]).split())
    each = {"seconds": f"{format_duration(plan.amount)} ({plan.clock} time)", "flops": f"{plan.amount:.3g} FLOPs"}
    amount = each.get(plan.unit, f"{plan.amount:,.0f} examples") + (" a task" if plan.kind == "ttt" else " a run")
    if any(variant.amount_factor != 1 for variant in plan.variants()):
        amount += ", times the factor of a variant that has one"
    missing = f" {total - len(rows)} of {total} runs are missing." if len(rows) < total else ""
    machines = "; ".join(sorted(set(rows["machine"])))
    return (
        f"# {plan.about or plan.path.stem}\n\n`{plan.path.name}`: {tasks} tasks, {amount}; one thread a run, on {machines}. "
        f"Means over seeds, with 95 % bootstrap intervals over tasks and seeds.{missing}\n\n"
    )


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
