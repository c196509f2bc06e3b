"""Settings compared on played runs: what each gives the tasks at several budgets, and the best one as a preset."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.core.clock import format_duration, parse_duration
from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.corpora.sources import answers_of, load
from hrm_submit.record.events import TaskFailed, TaskFinal, WorkerExit
from hrm_submit.record.folder import RunRecord, read_run, training_warning
from lab.budget.curve import predicted
from lab.budget.hindsight import show_buys, show_divisions, show_reliability
from lab.budget.looks import read_looks
from lab.budget.recording import Recording, record
from lab.budget.replay import Faults, replay
from lab.budget.settings import Setting, play, recorded_devices, staff, vary
from lab.budget.sizes import show_sizes

PARTS = (0.25, 0.5, 1.0)
"""Parts of the budget that the trade-off shows."""


def tune(args: argparse.Namespace) -> int:
    """Plan as the options say. Raises UserError."""
    budget = parse_duration(args.time_budget)
    known = load(args.challenges or args.dataset)
    wanted = _sized(list(known.values()), args.max_side, args.tasks)
    solutions = answers_of(args.solutions) if args.solutions else None
    if solutions is None and (args.reliability or args.divisions):
        raise ConfigError(f"--{'reliability' if args.reliability else 'divisions'} needs --solutions of the recorded tasks")
    with tempfile.TemporaryDirectory(prefix="tune-") as scratch:
        folders = args.runs or [measure(_sized(list(known.values()), args.max_side, None), args, Path(scratch))]
        for told in filter(None, (training_warning(read_run(folder).run) for folder in folders)):
            print(f"tune_budget: {told}", file=sys.stderr)
        if solutions is not None and args.reliability:
            return show_reliability(read_looks(folders, known, solutions), args.reliability)
        if solutions is not None and args.divisions:
            return show_divisions(read_looks(folders, known, solutions), budget * len(recorded_devices(folders[0])))
        recordings = record(folders, known, solutions)
        settings = vary(recordings, args.vary)
        workers = staff(settings[0], wanted, args.profile)
        _faster(recordings, args.faster)
        if args.sizes:
            return show_sizes(recordings[0], wanted, args.profile, budget, Path(scratch), args.seed)
        if args.replay:
            return show_replay(settings[0], wanted, workers, budget, args)
        rows = []
        for setting in settings:
            for part in PARTS:
                played = play(setting, wanted, workers, part * budget, Path(scratch), args.seed)
                rows.append({"setting": setting.name, "budget": format_duration(part * budget), **summary(played, setting, wanted)})
    show(pd.DataFrame(rows), settings, args)
    if solutions is not None:
        show_buys(recordings, rows[len(PARTS) - 1]["segments"], solutions)
    return 0


def measure(tasks: list[Task], args: argparse.Namespace, scratch: Path) -> Path:
    """A short real run of a few tasks of every size; returns its run folder."""
    ordered = sorted(tasks, key=lambda t: (canvas_side(t), t.id))
    chosen = {ordered[round(k * (len(ordered) - 1) / 5)].id: ordered[round(k * (len(ordered) - 1) / 5)] for k in range(6)}
    challenges, run = scratch / "measured.json", scratch / "measured"
    write_challenges(challenges, chosen)
    options = ["--preset", args.preset] if args.preset else []
    options += ["--checkpoint", args.checkpoint] if args.checkpoint else []
    files = ["--challenges", challenges, "--output", scratch / "submission.json", "--run-dir", run]
    print(f"measuring {args.measure} of {len(chosen)} tasks on this machine ...", file=sys.stderr)
    command = [sys.executable, "-m", "hrm_submit", "solve", *map(str, files), "--time-budget", args.measure, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"the measurement ended with status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return run


def summary(played: RunRecord, setting: Setting, tasks: Sequence[Task]) -> dict[str, Any]:
    """What a played (or real) run gave its `tasks`; `score` is the predicted share of solved outputs, `low` and `high` its interval."""
    finals = [e for e in played.events if isinstance(e, TaskFinal)]
    segments = pd.Series([e.segments for e in finals], dtype=float).groupby([e.task for e in finals]).sum()
    first = [e for e in finals if not e.restart]
    curve = setting.recording.curve
    score: tuple[float | None, ...] = (None, None, None)
    if curve and len(segments):
        outputs = [(float(segments.get(t.id, 0.0)), canvas_side(t) ** 2) for t in tasks for _ in t.test]
        score = tuple(round(x, 4) for x in predicted(curve, setting.recording.curves, outputs))
    return {
        "tasks": len(first),
        "segments": round(float(segments.mean()), 1) if len(segments) else 0.0,
        "votes": round(float(pd.Series([e.views for e in first]).mean()), 1) if first else 0.0,
        "settled": sum(bool(e.settled) for e in first),
        "again": len(finals) - len(first),
        "ends": format_duration(played.events[-1].t) if played.events else "",
        **dict(zip(("score", "low", "high"), score, strict=True)),
    }


def show(table: pd.DataFrame, settings: list[Setting], args: argparse.Namespace) -> None:
    """Print the table, write what was asked for."""
    if table["score"].isna().all():
        table = table.drop(columns=["score", "low", "high"])
    print(table.to_string(index=False))
    whole = table[table["budget"] == format_duration(parse_duration(args.time_budget))]
    by = "score" if "score" in table else "segments"
    best = whole.sort_values(by, ascending=False, kind="stable").iloc[0]
    print(f"\nbest by {'predicted score' if by == 'score' else 'segments a task (no solutions, so no scores)'}: {best['setting']}")
    if args.csv:
        table.to_csv(args.csv, index=False)
    if args.plot:
        draw(table, by, args.plot)
    if args.output:
        setting = next(s for s in settings if s.name == best["setting"])
        args.output.write_text(_toml(setting, best, args.time_budget), encoding="utf-8")
        print(f"written: {args.output} (solve --preset NAME,{args.output})")


def draw(table: pd.DataFrame, by: str, path: Path) -> None:
    """Score (or segments) against the budget, a line a setting."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, rows in table.groupby("setting", sort=False):
        axes.plot([parse_duration(b) / 60 for b in rows["budget"]], rows[by].astype(float), marker="o", label=str(name))
    axes.set(xlabel="budget (minutes)", ylabel="predicted share solved" if by == "score" else "segments a task", ylim=(0, None))
    axes.legend()
    figure.savefig(path)


def show_replay(setting: Setting, tasks: list[Task], workers: list[str], budget: float, args: argparse.Namespace) -> int:
    """Play one run with faults into a run folder of its own and say how it went."""
    try:
        die, hang, fail = (float(x) for x in args.faults.split(","))
    except ValueError:
        raise ConfigError(f"--faults {args.faults}: three chances, as 0.05,0.02,0.05") from None
    if args.replay.exists() and any(args.replay.iterdir()):
        raise ConfigError(f"{args.replay}: is not empty")
    args.replay.mkdir(parents=True, exist_ok=True)
    played = replay(setting.recording, setting.preset, tasks, workers, budget, args.replay, faults=Faults(die, hang, fail), seed=args.seed)
    exits = sum(isinstance(e, WorkerExit) for e in played.events)
    failed = sum(isinstance(e, TaskFailed) for e in played.events)
    told = ", ".join(f"{key} {value}" for key, value in summary(played, setting, tasks).items() if value is not None)
    print(f"{len(workers)} workers, {format_duration(budget)}: {told}; {exits} workers lost, {failed} attempts lost: {args.replay}")
    return 0


def _sized(tasks: list[Task], max_side: int, n: int | None) -> list[Task]:
    fitting = [t for t in tasks if canvas_side(t) <= max_side]
    if not fitting:
        raise DataError(f"no task fits a canvas of side {max_side}")
    if n is None or n <= len(fitting):
        return fitting[:n]
    return [replace(fitting[k % len(fitting)], id=f"{fitting[k % len(fitting)].id}-{k // len(fitting)}") for k in range(n)]


def _faster(recordings: list[Recording], factor: float) -> None:
    if factor <= 0:
        raise ConfigError(f"--faster {factor}: must be above 0")
    for recording in recordings:
        recording.segment, recording.view = recording.segment.scaled(factor), recording.view.scaled(factor)


def _toml(setting: Setting, best: Any, budget: str) -> str:
    lines = [f"# For {budget}: predicted {best['segments']} segments and {best['votes']} votes a task, ends at {best['ends']}."]
    if best.get("score") is not None:
        lines.append(f"# Predicted share solved: {best['score']}, 95 % interval {best['low']} to {best['high']}.")
    tables = {"budget": {"size_power": setting.preset.budget.size_power, "pairs_power": setting.preset.budget.pairs_power}}
    tables["vote"] = {"views": setting.preset.vote.views}
    for table, values in setting.changed.items():
        tables[table] = {**tables[table], **values}
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{key} = {value}" for key, value in values.items())]
    return "\n".join(lines) + "\n"
