"""Plan a run before you spend it: how much training and how many votes each task gets, when it ends, which setting should score best.

It simulates the whole run in seconds, with the real planner and a fake clock. Step times come from run folders of earlier runs (`--runs`, a
rehearsal on Kaggle for example), or else from a short measurement on this machine. With `--solutions` of the recorded tasks it also
fits which share is solved after how much training, and predicts scores up to twice the recorded training.

    python scripts/tune_budget.py --time-budget 8m --dataset arc-agi-1-evaluation --max-side 12 --tasks 60
    python scripts/tune_budget.py --runs rehearsal/run --challenges F --solutions S --profile l4x4 --time-budget 11h30m \\
        --vary budget.size_power=0,0.5,1 --vary vote.views=16,32,64 --output tuned.toml

Exit 0, or 2 for bad input.
"""

import argparse
import json
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from lab.budget_recording import FEWEST, Recording, estimate, on_the_way, record
from lab.budget_replay import planned_devices, replay

from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.cli import exit_status
from hrm_submit.config.preset_files import layer, load_preset
from hrm_submit.config.runtime import preset_of_cards
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import format_duration, parse_duration
from hrm_submit.core.device import cards, cpu_count, list_devices
from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.corpora.sources import answers_of, load
from hrm_submit.record.events import TaskFinal
from hrm_submit.record.folder import RunRecord, read_run, training_warning
from hrm_submit.run.placement import COMPILING_PAYS_FROM

VARIED = ("vote", "budget")
"""Tables that --vary may change and --output writes."""
DATASET = "arc-agi-2-evaluation"
PARTS = (0.25, 0.5, 1.0)
"""Parts of the budget that the table shows."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-budget", required=True, metavar="T", help="time budget of the run to plan: 11h30m, 8m")
    tasks = parser.add_mutually_exclusive_group()
    tasks.add_argument("--challenges", type=Path, metavar="F", help="tasks to plan for; with --runs, those that were run")
    tasks.add_argument("--dataset", metavar="NAME|F", help=f"tasks to plan for (default: those of --runs, else {DATASET})")
    parser.add_argument("--max-side", type=int, default=30, help="leave out tasks with a larger canvas")
    parser.add_argument("--tasks", type=int, metavar="N", help="plan for so many tasks of such sizes (default: as many as there are)")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], metavar="D", help="run folders to learn from")
    parser.add_argument("--solutions", type=Path, metavar="F", help="solutions of the recorded tasks: predicts scores")
    parser.add_argument("--measure", default="60s", metavar="T", help="length of the measurement without --runs (default: %(default)s)")
    parser.add_argument("--preset", default="", help="preset of the measurement")
    parser.add_argument("--checkpoint", metavar="F|none", help="weights of the measurement")
    parser.add_argument("--profile", metavar="P", help="preset of the device to plan for (default: as recorded)")
    parser.add_argument("--vary", action="append", default=[], metavar="TABLE.KEY=V,V", help="settings to compare; may be repeated")
    parser.add_argument("--output", type=Path, metavar="F.toml", help="write the best setting as a preset")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    return exit_status("tune_budget", lambda: tune(args))


def tune(args: argparse.Namespace) -> int:
    """Plan as the options say. Raises UserError."""
    budget = parse_duration(args.time_budget)
    known = load(args.challenges or args.dataset or _recorded_challenges(args.runs) or DATASET)
    tasks = tasks_to_plan(list(known.values()), args.max_side, args.tasks)
    solutions = answers_of(args.solutions) if args.solutions else None
    with tempfile.TemporaryDirectory(prefix="tune-") as scratch:
        folders = args.runs or [measure(tasks_to_plan(list(known.values()), args.max_side, None), args, Path(scratch), budget)]
        recordings = record(folders, known, solutions)
        settings = vary(recordings, args.vary)
        first, preset = next(iter(settings.values()))
        devices = planned_devices(first, preset, tasks, args.profile, not args.runs)
        guess = estimates(recordings, args.profile, preset)
        if guess:
            print(f"tune_budget: {guess}", file=sys.stderr)
        for recording in recordings:
            for warning in filter(None, (training_warning(each.run) for each in recording.runs.values())):
                print(f"tune_budget: {warning}", file=sys.stderr)
            if len(way := on_the_way(recording.runs.values(), solutions or {})):
                print(f"{next(iter(recording.runs)).name}, by its votes on the way:\n{way.to_string(index=False)}\n")
        rows = []
        for (name, (recording, preset)), part in product(settings.items(), PARTS):
            folder = Path(tempfile.mkdtemp(dir=scratch))
            played = replay(recording, preset, tasks, devices, part * budget, folder, seed=args.seed)
            rows.append({"setting": name, "budget": format_duration(part * budget), **summary(played, recording, tasks)})
    show(pd.DataFrame(rows), settings, args, guess)
    return 0


def _recorded_challenges(runs: Sequence[Path]) -> Path | None:
    """Find the challenges that the first of `runs` names, if they are still there."""
    named = read_run(runs[0]).run.get("challenges") if runs else None
    return Path(named) if isinstance(named, str) and Path(named).exists() else None


def estimates(recordings: Sequence[Recording], profile: str | None, preset: Preset) -> str:
    """Replace recorded speeds by estimated ones where `profile` is of a card that none was recorded on; returns how, or ""."""
    card = load_preset(profile, preset).device.card if profile else ""
    machines = [str(each.run.get("machine", "")) for recording in recordings for each in recording.runs.values()]
    if not card or any(re.search(rf"\b{re.escape(card)}\b", machine, re.IGNORECASE) for machine in machines):
        return ""
    return [estimate(recording, card) for recording in recordings][-1]


def tasks_to_plan(tasks: list[Task], max_side: int, n: int | None) -> list[Task]:
    """Take the tasks that fit, repeated under other ids until there are `n`. Raises DataError where none fits."""
    fitting = [t for t in tasks if canvas_side(t) <= max_side]
    if not fitting:
        raise DataError(f"no task fits a canvas of side {max_side}")
    if n is None or n <= len(fitting):
        return fitting[:n]
    return [replace(fitting[k % len(fitting)], id=f"{fitting[k % len(fitting)].id}-{k // len(fitting)}") for k in range(n)]


def measure(tasks: list[Task], args: argparse.Namespace, scratch: Path, budget: float) -> Path:
    """Solve six tasks from the smallest to the largest for a short time, by the kernels and workers of a run of `budget` seconds; returns
    the run folder."""
    ordered = sorted(tasks, key=lambda t: (canvas_side(t), t.id))
    chosen = {task.id: task for task in (ordered[round(k * (len(ordered) - 1) / 5)] for k in range(6))}
    challenges, run = scratch / "measured.json", scratch / "measured"
    write_challenges(challenges, chosen)
    same, kernels = scratch / "same.toml", "numba" if budget >= COMPILING_PAYS_FROM else "torch"
    same.write_text(f'[device]\nkernels = "{kernels}"\nworkers = {cpu_count()}\n', encoding="utf-8")
    options = ["--preset", ",".join(filter(None, [str(same), args.preset or preset_of_cards(cards(list_devices("auto")))]))]
    options += ["--checkpoint", args.checkpoint] if args.checkpoint else []
    files = ["--challenges", challenges, "--output", scratch / "submission.json", "--run-dir", run]
    print(f"measuring {args.measure} of {len(chosen)} tasks on this machine ...", file=sys.stderr)
    command = [sys.executable, "-m", "hrm_submit", "solve", *map(str, files), "--time-budget", args.measure, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise ConfigError(f"the measurement ended with status {done.returncode}: {said}; try a longer --measure, or a smaller --max-side")
    return run


def vary(recordings: list[Recording], texts: Sequence[str]) -> dict[str, tuple[Recording, Preset]]:
    """Name every recording under every combination of the values that `texts` list. Raises ConfigError."""
    axes = []
    for text in texts:
        key, _, values = text.partition("=")
        table, _, name = key.partition(".")
        try:
            choices = [{table: {name: json.loads(value)}} for value in values.split(",")] if table in VARIED else []
        except ValueError:
            choices = []
        if not choices:
            usage = "write it as budget.size_power=0,0.5 or vote.views=16,32; other tables need runs of their own"
            raise ConfigError(f"--vary {text}: {usage}")
        axes.append(choices)
    settings = {}
    for recording, choice in product(recordings, product(*axes)):
        preset, label = recording.preset, [next(iter(recording.runs)).name] if len(recordings) > 1 else []
        for change in choice:
            preset = layer(preset, change, "--vary")
            label += [f"{name}={value}" for values in change.values() for name, value in values.items()]
        settings[" ".join(label) or "as recorded"] = recording, preset
    return settings


def summary(played: RunRecord, recording: Recording, tasks: Sequence[Task]) -> dict[str, Any]:
    """Sum up what a simulated run gave its `tasks`; `score` is the predicted share of solved outputs, `low` and `high` its interval."""
    finals = [e for e in played.events if isinstance(e, TaskFinal)]
    segments = pd.Series([e.segments for e in finals], dtype=float).groupby([e.task for e in finals]).sum()
    first = [e for e in finals if not e.restart]
    score = recording.score(tasks, {str(task): n for task, n in segments.items()})
    told: list[float | None] = [round(x, 4) for x in score] if score else [None, None, None]
    if len(recording.outcomes) < FEWEST:
        told[0] = None
    return {
        "tasks": len(first),
        "segments": round(float(segments.mean()), 1) if finals else 0.0,
        "votes": round(float(pd.Series([e.views for e in first]).mean()), 1) if first else 0.0,
        "stopped early": sum(bool(e.settled) for e in first),
        "retrained": len(finals) - len(first),
        "ends": format_duration(played.events[-1].t) if played.events else "",
        **dict(zip(("score", "low", "high"), told, strict=True)),
    }


def show(table: pd.DataFrame, settings: Mapping[str, tuple[Recording, Preset]], args: argparse.Namespace, guess: str = "") -> None:
    """Print the table, write what was asked for; `guess` says how speeds were estimated, if they were."""
    farthest = min(recording.farthest for recording, _ in settings.values())
    if farthest and table["low"].isna().any():
        print(f"no score is predicted beyond twice the recorded training, {farthest:.0f} segments a task: record a longer run\n")
    table = table.dropna(axis=1, how="all")
    print(table.to_string(index=False, na_rep=""))
    whole = table.groupby("setting", sort=False).last().reset_index()
    by = "score" if "score" in table and whole["score"].notna().any() else "segments"
    best = whole.sort_values(by, ascending=False, kind="stable").iloc[0]
    recorded = [name for name, (recording, preset) in settings.items() if preset == recording.preset]
    default = whole[whole["setting"].isin(recorded)].head(1)
    if len(default) and (best["low"] if by == "score" else best[by]) <= default[by].iloc[0]:
        best = default.iloc[0]  # no other is surely better
    why = "predicted score" if by == "score" else "segments a task (too few recorded outputs for scores)"
    print(f"\nbest by {why if 'low' in table else 'segments a task (no scores)'}: {best['setting']}")
    if args.output:
        told = f"# For {args.time_budget}: {best['segments']} segments and {best['votes']} votes a task, ends at {best['ends']}.\n"
        if guess:
            told += f"# Speeds are {guess}.\n"
        if by == "score":
            told += f"# Predicted share solved: {best['score']}, 95 % interval {best['low']} to {best['high']}.\n"
        tables = {name: values for name, values in settings[best["setting"]][1].to_dict().items() if name in VARIED}
        lines = [f"\n[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()) for name, values in tables.items()]
        args.output.write_text(told + "".join(lines), encoding="utf-8")
        print(f"written: {args.output} (solve --preset NAME,{args.output})")


if __name__ == "__main__":
    sys.exit(main())
