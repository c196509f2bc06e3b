"""`runs`: the runs and submissions below a folder as a table, and two runs compared.

Notable: a score is shown where solutions are given or found: those of the challenges of a run, or a `solutions.json` in one of the few
folders around it, where a rehearsal leaves it.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from hrm_submit.arc.submission import Attempts, read_submission
from hrm_submit.arc.task import Solutions
from hrm_submit.core.clock import format_duration
from hrm_submit.core.errors import ConfigError, DataError, UserError, clipped
from hrm_submit.core.files import open_regular
from hrm_submit.corpora.scoring import score
from hrm_submit.corpora.sources import answers_of
from hrm_submit.record.events import number
from hrm_submit.record.folder import read_description, run_of, weights_of
from hrm_submit.report.data import RunData, load_run
from hrm_submit.report.grids import Tile, percent
from hrm_submit.report.picture import Picture, Section
from hrm_submit.report.statistics import mean_interval
from hrm_submit.report.tables import make_tables

COLUMNS = ("name", "pass@2", "Kaggle", "tasks", "date", "command", "weights", "preset", "seed", "budget")
SUBMISSIONS = Path("kaggle") / "submissions.json"
"""What `make status` records in its build folder."""
FIXTURES = "fixtures"
"""Folders of tests' data, such as this project's, hold no runs of anybody."""
AROUND = 4
"""Folders around a run in which its solutions may lie."""
NO_SETTINGS = ("v", "output", "run_dir", "started", "workers", "challenges", "challenges_sha256")
"""Keys of `run.json` that say nothing of how a run works."""


def list_runs(folder: Path, solutions: str | None) -> Picture:
    """Show a table of the runs and submissions below `folder`, the oldest first, and what could not be read. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    rows, notes = list[dict[str, Any]](), list[str]()
    given = answers_of(solutions) if solutions else None
    for path in _found(folder):
        try:
            if path.match(str(SUBMISSIONS)):
                rows += _on_kaggle(path)
            else:
                row = _run(path, given) if path.is_dir() else _submission(path, given)
                rows.append({"name": str(path.relative_to(folder))} | row)
        except UserError as error:
            notes.append(str(error))
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).sort_values("date", kind="stable")
    lines = [*notes, *([] if rows else ["no run and no submission"])]
    return Picture(f"Runs below {folder.resolve()}", (), lines, table.dropna(axis="columns", how="all").fillna(""))


def _found(folder: Path) -> Iterator[Path]:
    """Walk through run folders, submissions that are not of a run, and records of Kaggle's submissions."""
    outputs, files = set[Path](), list[Path]()
    for root, folders, names in os.walk(folder):
        here = Path(root)
        if "events.jsonl" in names:
            folders.clear()
            outputs.add(Path(str(read_description(here, []).get("output", ""))).resolve())
            yield here
            continue
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != FIXTURES)
        files += [here / name for name in sorted(names) if name.endswith(".json")]
    for file in files:
        if file.match(str(SUBMISSIONS)) or (_is_submission(file) and file.resolve() not in outputs and not run_of(file)):
            yield file


def _is_submission(file: Path) -> bool:
    """Tell by its first bytes; Kaggle's sample is none of anybody's."""
    if file.name != "sample_submission.json":
        with suppress(OSError), open_regular(file) as opened:
            return b'"attempt_1"' in opened.read(1000)
    return False


def _run(path: Path, given: Solutions | None) -> dict[str, Any]:
    data = load_run(path)
    run, budget = data.run, number(data.run.get("budget"))
    work = format_duration(budget) if budget else f"{run['segments']} segments" if run.get("segments") else None
    return {
        "date": str(run.get("started") or _date((path / "events.jsonl").stat().st_mtime)),
        "command": str(run.get("command", "solve")),
        "weights": ", ".join(Path(path).name for path in weights_of(run)) if run else None,
        "preset": run.get("presets") or None,
        "seed": run.get("seed"),
        "budget": work,
        "tasks": len(data.scope),
        "pass@2": _score(data.answers, data.scope, _truth(path, given, run.get("challenges"))),
    }


def _submission(path: Path, given: Solutions | None) -> dict[str, Any]:
    answers = read_submission(path)[0]
    return {
        "date": _date(path.stat().st_mtime),
        "command": "submission",
        "tasks": len(answers),
        "pass@2": _score(answers, list(answers), _truth(path, given)),
    }


def _on_kaggle(path: Path) -> Iterator[dict[str, Any]]:
    """Read what `make status` recorded."""
    try:
        rows = [row for row in json.loads(path.read_bytes()) if isinstance(row, dict)]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    for row in rows:
        state = str(row.get("status", "")).rsplit(".", 1)[-1].lower()
        points = row.get("publicScore")
        named = {"name": str(row.get("description") or row.get("ref")), "command": "Kaggle submission"}
        yield named | {"date": str(row.get("date", ""))[:16].replace("T", " "), "Kaggle": state if points in (None, "") else str(points)}


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


def _score(answers: Mapping[str, Sequence[Attempts]], tasks: Sequence[str], truth: Solutions) -> str | None:
    wanted = {task: truth[task] for task in tasks if task in truth}
    return percent(score(answers, wanted)["pass@2"]) if wanted.keys() & answers.keys() else None


def _truth(place: Path, given: Solutions | None, challenges: object = None) -> Solutions:
    """Return the solutions `given`, else those of the challenges, else those that lie around `place`; none where there are none."""
    if given:
        return given
    around = [folder / "solutions.json" for folder in place.resolve().parents[:AROUND]]
    for source in filter(None, [challenges, *filter(Path.is_file, around)]):
        with suppress(UserError):
            return answers_of(str(source))
    return {}


def compare_runs(a: Path, b: Path, solutions: str | None) -> Picture:
    """Show how run `a` did against run `b`: the settings that differ, and both attempts at each task gained and lost. Raises UserError."""
    mine, theirs = load_run(a), load_run(b)
    truth = _truth(a, answers_of(solutions) if solutions else None, mine.run.get("challenges"))
    if not truth:
        raise ConfigError("--compare needs --solutions, to know which run solved what")
    mine, theirs = replace(mine, solutions=truth), replace(theirs, solutions=truth)
    judged = [make_tables(run).outputs.set_index(["task", "output"])["solved"] for run in (mine, theirs)]
    solved = pd.concat(judged, axis="columns", keys=["A", "B"], join="inner").dropna().astype(bool)
    if solved.empty:
        raise DataError(f"{b}: has no task with a known solution in common with {a}")
    whole = solved.groupby("task", sort=False).all()
    gained, lost = whole.index[whole["A"] & ~whole["B"]], whole.index[whole["B"] & ~whole["A"]]
    change = mean_interval(list(solved.index.get_level_values("task")), solved["A"].to_numpy(float) - solved["B"].to_numpy(float))
    lines = [
        f"Compared: {len(whole)} tasks that both runs had (of {len(mine.scope)} and {len(theirs.scope)}) and whose solutions are known.",
        f"A is {a}: {solved['A'].sum()} of {len(solved)} test outputs solved. B is {b}: {solved['B'].sum()} of {len(solved)}.",
        f"pass@2 of A less that of B, in points: {change.text('+')} (95 % interval, paired: whole tasks are drawn).",
        f"Tasks of A against B: {len(gained)} gained, {len(lost)} lost.",
    ]
    settings = _differences(mine.run, theirs.run)
    if settings.empty:
        lines.append("The settings are the same.")
    changed = [*(("gained", task) for task in gained), *(("lost", task) for task in lost)]
    sections = [section for how, task in changed for section in _both(mine, theirs, task, f"{how}: task {task}")]
    return Picture("Two runs compared", sections, lines, settings)


def _differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> pd.DataFrame:
    a, b = (dict(_flat({key: value for key, value in run.items() if key not in NO_SETTINGS})) for run in (mine, theirs))
    rows = [(key, *(clipped(side.get(key, ""), 60) for side in (a, b))) for key in {**a, **b} if a.get(key) != b.get(key)]
    return pd.DataFrame(rows, columns=["setting", "A", "B"])


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        value = {str(number): inner for number, inner in enumerate(value)}
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _both(mine: RunData, theirs: RunData, task: str, heading: str) -> Iterator[Section]:
    """Make a section for each test output: its input, the attempts of A with the answer, and those of B."""
    pairs = zip(mine.outputs(task), theirs.outputs(task), strict=True)
    for k, (a, b) in enumerate(pairs, 1):
        known = [Tile(name, grid) for name, grid in (("test input", a.input), ("answer", a.truth)) if grid is not None]
        attempts = [[replace(tile, caption=f"{name}, {tile.caption}") for tile in output.tiles()] for name, output in (("A", a), ("B", b))]
        yield Section(f"{heading}, test {k}", list(filter(None, [known, *attempts])))
