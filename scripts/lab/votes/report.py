"""The comparison of voting rules from run folders to its table: as text, Markdown and JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from hrm_submit.arc.jsonio import write_json
from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.corpora.sources import answers_of
from lab.markdown import to_markdown
from lab.votes.comparison import Row, Sample, Setting, compare, judge, raw_files, read_tasks
from lab.votes.rules import RULES, Rule, own_rule

MOST_NAMED = 12
"""Outputs that the text names of those that a rule gains or loses; the JSON has them all."""
MOST_LINES = 30
"""Lines of such names."""


def report(args: argparse.Namespace) -> int:
    """Compare as the options say, and print the table. Raises UserError."""
    rules = RULES | {path.stem: own_rule(path) for path in args.own}
    baseline, settings = choose_settings(args, rules)
    solutions = answers_of(args.solutions)
    skipped: list[str] = []
    samples: list[Sample] = []
    found = dict(zip(_labels(args.runs), [raw_files(run) for run in args.runs], strict=True))
    if args.pool:
        found = {"pooled": [file for files in found.values() for file in files]}
    for label, files in found.items():
        for task, trainings in tqdm(read_tasks(files, skipped), desc=label, unit="task", disable=None, leave=False):
            if task not in solutions:
                skipped.append(f"{task}: {args.solutions} has no solution")
                continue
            if max(int(t.output.max()) for t in trainings) >= len(solutions[task]):
                raise DataError(f"{args.solutions}: {task}: solutions for {len(solutions[task])} outputs, but there are more test inputs")
            samples += judge(label, trainings, solutions[task], [baseline, *settings], rules)
    for fault in skipped:
        print(f"compare_votes: skipped: {fault}", file=sys.stderr)
    if not samples:
        raise DataError("nothing to compare")
    rows = compare(samples, settings, baseline, args.seed)
    if args.json:
        write_json(args.json, to_json(rows, samples, baseline, skipped))
    show(rows, samples, baseline, args.markdown)
    return 0


def choose_settings(args: argparse.Namespace, known: Mapping[str, Rule]) -> tuple[Setting, list[Setting]]:
    """What is compared with, and what is compared. Raises ConfigError."""
    rules = [r.strip() for r in args.rules.split(";")] if args.rules else list(known)
    for option, named in (("--rules", rules), ("--against", [args.against])):
        unknown = [r for r in named if r not in known]
        if unknown:
            raise ConfigError(f"{option}: unknown rule {unknown[0]!r}; known: {'; '.join(known)}")
    baseline = Setting(args.against)
    steps = _numbers(args.steps, "--steps") or [None]
    views = [*_numbers(args.views, "--views"), None]
    return baseline, [Setting(rule, n, s) for s, n, rule in product(steps, views, rules)]


def show(rows: Sequence[Row], samples: Sequence[Sample], baseline: Setting, markdown: bool) -> None:
    tasks, runs = len({s.task for s in samples}), len({s.run for s in samples})
    print(f"{len(samples)} test outputs of {tasks} tasks in {runs} run{'s' if runs > 1 else ''}; compared with {baseline.rule!r}\n")
    table = pd.DataFrame([_cells(row) for row in rows])
    for column, default in (("views", "all"), ("steps", "run's")):
        if (table[column] == default).all():
            table = table.drop(columns=column)
    width = table["rule"].str.len().max()
    print(to_markdown(table) if markdown else table.assign(rule=table["rule"].str.ljust(width)).to_string(index=False))
    changed = [(r.setting, side, names) for r in rows for side, names in (("gains", r.gained), ("loses", r.lost)) if names]
    if changed:
        print()
    for setting, side, names in changed[:MOST_LINES]:
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        at = [f"{n} {what}" for n, what in ((setting.views, "views"), (setting.steps, "steps")) if n]
        where = f" ({', '.join(at)})" if at else ""
        print(f"{'- ' if markdown else ''}{setting.rule}{where} {side} {', '.join(names[:MOST_NAMED])}{more}")
    if len(changed) > MOST_LINES:
        print(f"{'- ' if markdown else ''}... and so on: --json writes all")


def to_json(rows: Sequence[Row], samples: Sequence[Sample], baseline: Setting, skipped: Sequence[str]) -> dict[str, object]:
    """Everything, shares within 0..1; views and steps are null where all views or the run's own steps are meant."""
    return {
        "runs": sorted({s.run for s in samples}),
        "tasks": len({s.task for s in samples}),
        "outputs": len(samples),
        "skipped": list(skipped),
        "baseline": asdict(baseline),
        "rows": [
            {
                **asdict(row.setting),
                "pass@1": asdict(row.pass_1),
                "pass@2": asdict(row.pass_2),
                "difference@2": asdict(row.difference),
                "oracle": row.oracle,
                "steps_taken": row.steps,
                "gained": list(row.gained),
                "lost": list(row.lost),
            }
            for row in rows
        ],
    }


def _labels(runs: Sequence[Path]) -> list[str]:
    """The folders' names where those tell them apart, else their paths."""
    names = [run.resolve().name for run in runs]
    labels = names if len(set(names)) == len(names) else [str(run) for run in runs]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"{next(x for x in labels if labels.count(x) > 1)}: the same run folder twice")
    return labels


def _numbers(text: str | None, option: str) -> list[int | None]:
    try:
        numbers = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        numbers = [0]
    if any(n < 1 for n in numbers):
        raise ConfigError(f"{option} {text!r}: not whole numbers above 0, separated by commas")
    return list(numbers)


def _cells(row: Row) -> dict[str, str]:
    return {
        "rule": row.setting.rule,
        "views": str(row.setting.views or "all"),
        "steps": str(row.setting.steps or "run's"),
        "pass@1 %": row.pass_1.text(),
        "pass@2 %": row.pass_2.text(),
        "difference": row.difference.text("+"),
        "gained": str(len(row.gained)),
        "lost": str(len(row.lost)),
        "oracle %": f"{100 * row.oracle:.1f}",
        "steps taken": f"{row.steps:.1f}",
    }
