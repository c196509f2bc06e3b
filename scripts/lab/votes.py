"""Compare voting rules on the same saved predictions: what each would have scored, how sure that is, what it gains and loses.

Notable: a sample is one test output in one run. Runs of other seeds are further samples of the same tasks, and intervals resample whole
tasks. The last votes of a task's trainings are pooled; what votes on the way added to a run's answer was not saved.
"""

import argparse
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from hrm_submit.arc.jsonio import write_json
from hrm_submit.arc.task import Grid, same_grid
from hrm_submit.core.errors import ConfigError, DataError, clipped
from hrm_submit.corpora.sources import answers_of
from hrm_submit.predict.rank import RULES as PACKAGE_RULES
from hrm_submit.predict.rank import Rule
from hrm_submit.predict.raw import RAW, RawVote, load_raw
from hrm_submit.predict.vote import pool
from hrm_submit.report.statistics import Interval, mean_interval
from lab.markdown import to_markdown

RULES: dict[str, Rule] = {str(name): rule for name, rule in PACKAGE_RULES.items()}
MOST_NAMED = 12
"""The text names so many of the outputs that a rule gains or loses; the JSON has them all."""


@dataclass(frozen=True)
class Sample:
    """One test output in one run; `right` says for each rule whether the first attempt, one of two attempts, and any view is right."""

    run: str
    task: str
    output: int
    right: tuple[tuple[bool, bool, bool], ...]


def compare_votes(args: argparse.Namespace) -> int:
    """Compare the rules as the options say and print the table. Raises UserError."""
    rules = RULES | {path.stem: own_rule(path) for path in args.own}
    if args.against not in rules:
        raise ConfigError(f"--against: unknown rule {args.against!r}; known: {'; '.join(rules)}")
    solutions = answers_of(args.solutions)
    runs = {"pooled": list(args.runs)} if args.pool else {label: [run] for label, run in _labelled(args.runs).items()}
    samples: list[Sample] = []
    skipped: list[str] = []
    for label, folders in runs.items():
        for task, trainings in tqdm(read_tasks(folders, skipped), desc=label, unit="task", disable=None, leave=False):
            if task not in solutions:
                skipped.append(f"{task}: {args.solutions} has no solution")
                continue
            if max(int(t.output.max()) for t in trainings) >= len(solutions[task]):
                raise DataError(f"{args.solutions}: {task}: solutions for {len(solutions[task])} outputs, but there are more test inputs")
            samples += judge(label, trainings, solutions[task], list(rules.values()))
    for fault in skipped:
        print(f"compare_votes: skipped: {fault}", file=sys.stderr)
    if not samples:
        raise DataError("nothing to compare")
    rows = table(samples, list(rules), args.against)
    names, tasks = sorted({s.run for s in samples}), len({s.task for s in samples})
    if args.json:
        found = {"runs": names, "tasks": tasks, "outputs": len(samples), "skipped": skipped, "baseline": args.against}
        write_json(args.json, {**found, "rows": rows})
    print(f"runs: {', '.join(names)}; {len(samples)} test outputs of {tasks} tasks; compared with {args.against!r}\n")
    show(rows, args.markdown)
    return 0


def own_rule(path: Path) -> Rule:
    """Run the user's Python file and take its function `rule`. Raises ConfigError where there is none."""
    try:
        own: Rule | None = runpy.run_path(str(path)).get("rule")
    except Exception as error:
        raise ConfigError(f"--own {path}: {type(error).__name__}: {clipped(error, 200)}") from error
    if not callable(own):
        raise ConfigError(f"--own {path}: has no function called rule")
    return own


def read_tasks(runs: Sequence[Path], skipped: list[str]) -> Iterator[tuple[str, list[RawVote]]]:
    """Read the votes of each task's trainings, task by task; damaged files are named in `skipped`. Raises DataError for a run folder
    without any."""
    by_task: dict[str, list[Path]] = {}
    for run in runs:
        files = sorted((run / RAW).glob("*.npz"))
        if not files:
            raise DataError(f"{run}: no raw predictions there: solve with the preset key save_raw = true in [vote]")
        for path in files:
            by_task.setdefault(path.name.split(".", 1)[0], []).append(path)
    for paths in by_task.values():
        votes: list[RawVote] = []
        for path in paths:
            try:
                votes.append(load_raw(path))
            except DataError as error:
                skipped.append(str(error))
        if votes:
            yield votes[0].task, votes


def judge(run: str, trainings: Sequence[RawVote], solution: Sequence[Grid], rules: Sequence[Rule]) -> Iterator[Sample]:
    """Judge every rule on each test output of one task."""
    for number, truth in enumerate(solution):
        views = [part for part in (t.of_output(number) for t in trainings) if len(part)]
        given = any(same_grid(p.grid, truth) for part in views for p in part.predictions() if p is not None)
        right = []
        for rule in rules:
            attempts = [same_grid(c.grid, truth) for c in pool(rule(part) for part in views)[:2]]
            right.append((attempts[:1] == [True], any(attempts), given))
        yield Sample(run, trainings[0].task, number, tuple(right))


def table(samples: Sequence[Sample], rules: Sequence[str], against: str) -> list[dict[str, Any]]:
    """Score every rule: shares within 0..1 with their intervals, and the outputs gained and lost compared with `against`."""
    several = len({s.run for s in samples}) > 1
    names = [f"{s.run}:{s.task}#{s.output}" if several else f"{s.task}#{s.output}" for s in samples]
    tasks = [s.task for s in samples]
    right = np.array([s.right for s in samples], dtype=np.float64)  # (samples, rules, 3)
    base = right[:, rules.index(against), 1]
    rows = []
    for column, rule in enumerate(rules):
        first, second, given = right[:, column].T
        rows.append(
            {
                "rule": rule,
                "pass@1": asdict(mean_interval(tasks, first)),
                "pass@2": asdict(mean_interval(tasks, second)),
                "difference@2": asdict(mean_interval(tasks, second - base)),
                "oracle": float(given.mean()),
                "gained": [name for name, change in zip(names, second - base, strict=True) if change > 0],
                "lost": [name for name, change in zip(names, second - base, strict=True) if change < 0],
            }
        )
    return rows


def show(rows: Sequence[Mapping[str, Any]], markdown: bool) -> None:
    """Print the table, and under it which outputs each rule gains and loses."""
    width = max(len(row["rule"]) for row in rows)
    cells = pd.DataFrame(
        {
            "rule": row["rule"] if markdown else row["rule"].ljust(width),
            "pass@1 %": Interval(**row["pass@1"]).text(),
            "pass@2 %": Interval(**row["pass@2"]).text(),
            "difference": Interval(**row["difference@2"]).text("+"),
            "gained": str(len(row["gained"])),
            "lost": str(len(row["lost"])),
            "oracle %": f"{100 * row['oracle']:.1f}",
        }
        for row in rows
    )
    print(to_markdown(cells) if markdown else cells.to_string(index=False), end="\n\n")
    for row in rows:
        for verb, names in (("gains", row["gained"]), ("loses", row["lost"])):
            if names:
                more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
                print(f"{'- ' if markdown else ''}{row['rule']} {verb} {', '.join(names[:MOST_NAMED])}{more}")


def _labelled(runs: Sequence[Path]) -> dict[str, Path]:
    """Name each run by its folder's name, or by its path where two names are equal. Raises ConfigError for a folder given twice."""
    if len(set(runs)) < len(runs):
        raise ConfigError(f"{next(run for run in runs if runs.count(run) > 1)}: the same run folder twice")
    labelled = {run.resolve().name: run for run in runs}
    return labelled if len(labelled) == len(runs) else {str(run): run for run in runs}
