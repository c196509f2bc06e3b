"""Everything a report is made from: the run folder, and the challenges and solutions files where they are at hand.

Notable: the answers come from the function with which `solve` resumes a run, so they equal what a whole run wrote, fallbacks included.
Whatever cannot be used, such as a damaged line, is left out and named.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from hrm_submit.arc.entries import Entry
from hrm_submit.arc.jsonio import located
from hrm_submit.arc.reader import digest, read_challenges, source_names
from hrm_submit.arc.submission import NO_GRID, Attempts
from hrm_submit.arc.task import Grid, Solutions, Task
from hrm_submit.config.schema import TTTConfig
from hrm_submit.core.errors import DataError, SolveError
from hrm_submit.corpora.sources import answers_of
from hrm_submit.record.events import number
from hrm_submit.record.folder import read_run, training_warning
from hrm_submit.record.predictions import Prediction, answers_from, fallback_answers
from hrm_submit.record.state import RunState
from hrm_submit.report.grids import Output


@dataclass(frozen=True, eq=False)
class RunData:
    """A run and what belongs to it. Mappings are by task id."""

    directory: Path
    run: Mapping[str, Any]
    """`run.json`; of several attempts that of the last."""
    state: RunState
    newest: Mapping[tuple[str, int], Prediction]
    """The newest of each (task, output) that has candidates."""
    scope: tuple[str, ...]
    """Tasks that the run was to solve, in the file's order: all, or those that it chose."""
    tasks: Mapping[str, Task]
    """Empty where no challenges file is at hand."""
    faults: Mapping[str, str]
    """Why tasks cannot be used."""
    answers: Mapping[str, Sequence[Attempts]]
    """The submission; a task of which nothing is known has grids of no cells."""
    answered: frozenset[str]
    """Tasks for which the model gave a candidate; all others have fallback answers."""
    solutions: Solutions | None
    notes: tuple[str, ...]
    """Damaged lines (`file:line: fault`), and what else was left out."""

    def outputs(self, task: str) -> list[Output]:
        """Return each test output of a task."""
        inputs, truths, found = self.tasks[task].test if task in self.tasks else (), (self.solutions or {}).get(task, ()), []
        for k, (attempts, given, truth) in enumerate(zip_longest(self.answers[task], inputs, truths)):
            newest = self.newest.get((task, k))
            candidates, votes = (newest.candidates, newest.votes) if newest else ((), 0)
            found.append(Output(attempts or (), candidates, votes, given, truth))
        return found


def fit_of(run: Mapping[str, Any]) -> float:
    """Return `[ttt] fit` of `run` (`run.json`), else the default: share of exact demonstrations from which a task has fit them."""
    try:
        fit = number(run["config"]["ttt"]["fit"])
    except (KeyError, TypeError):
        fit = None
    return TTTConfig().fit if fit is None else fit


def load_run(directory: Path, challenges: Path | str | None = None, solutions: Path | str | None = None) -> RunData:
    """Read a run folder, whole or of a killed run.

    Without `challenges` the file that `run.json` names is used, where it is still there and unchanged. Raises SolveError where there is
    no run folder, DataError for a file that is damaged or belongs to another run.
    """
    record = read_run(directory)
    if not any((directory / name).exists() for name in ("run.json", "events.jsonl", "predictions.jsonl")):
        raise SolveError(f"{directory}: holds no run")
    notes = [*filter(None, [training_warning(record.run)]), *record.damaged]
    tasks, broken = _challenges(record.run, challenges, notes)
    newest = {(p.task, p.output): p for p in record.predictions if p.candidates}
    wanted = {**record.state.tasks, **{task: None for task, _ in newest}}
    fallbacks = fallback_answers(tasks, broken) or blanks([*((task, -1) for task in wanted), *newest], NO_GRID)
    found = answers_from(fallbacks, record.predictions)
    truth = _solutions(solutions, found.attempts, tasks) if solutions is not None else None
    scope = tuple(task for task in fallbacks if task in wanted)
    if not scope or set(scope) | set(broken) == set(fallbacks):
        scope = tuple(fallbacks)
    faults = {task: b.fault for task, b in broken.items()}
    notes += [*faults.values(), *(f"task {t!r}: in the run folder, but not among the challenges" for t in wanted if t not in fallbacks)]
    answered = frozenset(found.answered)
    return RunData(directory, record.run, record.state, newest, scope, tasks, faults, found.attempts, answered, truth, tuple(notes))


def challenges_of(run: Mapping[str, Any]) -> str | None:
    """Return the set or the path of the challenges of a run (`run.json`), if it is still there."""
    named = run.get("challenges")
    return named if isinstance(named, str) and (named in source_names() or Path(named).exists()) else None


def _challenges(run: Mapping[str, Any], explicit: Path | str | None, notes: list[str]) -> tuple[Mapping[str, Task], Mapping[str, Entry]]:
    source, named, content = explicit or challenges_of(run), run.get("challenges"), run.get("challenges_sha256")
    fault = f"{named}: the challenges file is not there" if named else "the run folder names no challenges file"
    if source is not None:
        try:
            if content in (None, digest(source)):
                return read_challenges(source)
            fault = f"{source}: is not the challenges file of this run, or was changed since"
        except DataError as error:
            fault = str(error)
        if explicit is not None:
            raise DataError(fault)
    notes.append(f"{fault}; `report --challenges F` names the right one: no demonstrations are shown")
    return {}, {}


def blanks(outputs: Iterable[tuple[str, int]], grid: Grid) -> dict[str, list[Attempts]]:
    """Make two attempts `grid` at each output, 0 to the largest of a task; a task of output -1 has none."""
    sizes: dict[str, int] = {}
    for task, output in outputs:
        sizes[task] = max(sizes.get(task, 0), output + 1)
    return {task: [(grid, grid)] * n for task, n in sizes.items()}


def _solutions(path: Path | str, answers: Mapping[str, Sequence[Attempts]], tasks: Mapping[str, Task]) -> Solutions:
    solutions = answers_of(path)
    if not solutions.keys() & answers.keys():
        raise DataError(f"{path}: has no solution of any task of this run")
    for task_id, task in tasks.items():
        if task_id in solutions and len(solutions[task_id]) != len(task.test):
            fault = f"{len(solutions[task_id])} solutions for {len(task.test)} test inputs"
            raise DataError(located(path, task_id, fault))
    return solutions
