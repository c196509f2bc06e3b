"""A task and the predictions for it as sections of a picture.

Notable: a prediction is taken in every form in which this package has one: the pairs of a submission, candidates of a vote,
lines of a run folder. What of it is no grid is left out and never raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrm_submit.arc.jsonio import FaultError, parse_grid
from hrm_submit.arc.submission import ATTEMPT_KEYS
from hrm_submit.arc.task import Grid, Task, same_grid
from hrm_submit.report.screen.picture import Picture, Section, Tile
from hrm_submit.solver.task_answer import TaskAnswer

ATTEMPTS = 2
"""Guesses at an output that count; of more candidates only so many are shown."""


@dataclass(frozen=True, eq=False)
class Guess:
    """A grid that was predicted, with its votes and its mean log-probability where these are known."""

    grid: Grid
    votes: int | None = None
    score: float | None = None


Guesses = tuple[tuple[Guess, ...], ...]
"""For each test output of a task its guesses, best first."""


def show_task(task: Task, answers: Sequence[Grid] = (), predicted: Guesses | None = None) -> Picture:
    """The demonstrations of `task`, then its test inputs with the attempts of `predicted` and their `answers` where given."""
    shown = tuple((Tile(f"input {n}", pair.input), Tile(f"output {n}", pair.output)) for n, pair in enumerate(task.train, 1))
    tests = prediction_section(predicted or (), task, answers)
    sections = (Section("", (*shown, *tests.groups)),) if predicted is None else (Section("", shown), tests)
    return Picture(f"task {task.id}", sections)


def prediction_section(predicted: Guesses, task: Task | None, answers: Sequence[Grid], heading: str = "") -> Section:
    """For each test output a group: the test input where `task` is given, the attempts, and the answer where given."""
    groups = []
    n = max(len(predicted), len(task.test) if task else 0)
    for k in range(n):
        tiles = [Tile(_numbered("test input", k, n), task.test[k])] if task and k < len(task.test) else []
        answer = answers[k] if k < len(answers) else None
        candidates = predicted[k] if k < len(predicted) else ()
        votes = sum(guess.votes or 0 for guess in candidates)
        for number, guess in enumerate(candidates[:ATTEMPTS], 1):
            tiles.append(_attempt(number, guess, votes, answer))
        groups.append((*tiles, *([] if answer is None else [Tile("answer", answer)])))
    return Section(heading, tuple(group for group in groups if group))


def guesses(what: Any) -> Guesses:
    """A prediction in any of its forms. Raises TypeError for what is none."""
    if isinstance(what, TaskAnswer):
        what = [(*found, *attempts[len(found) :]) for found, attempts in zip(what.candidates, what.attempts, strict=True)]
    if isinstance(what, Mapping) or not isinstance(what, Iterable) or isinstance(what, str | bytes | np.ndarray):
        raise TypeError(f"cannot show {type(what).__name__}: a Task, a run folder or the predictions for a task's outputs are needed")
    found = list(what)
    if found and all(_is_guess(x) for x in found):  # of a task's only output
        found = [found]
    return tuple(_output(x) for x in found)


def _output(value: Any) -> tuple[Guess, ...]:
    if isinstance(value, Mapping):
        if "candidates" in value:
            value = value["candidates"]
        elif ATTEMPT_KEYS[0] in value:
            value = [{"grid": value[key]} for key in ATTEMPT_KEYS if key in value]
    if not isinstance(value, Iterable) or not all(_is_guess(x) for x in value):
        raise TypeError("a prediction has for each output its grids, pairs of attempts or candidates")
    return tuple(guess for guess in map(_guess, value) if guess is not None)


def _is_guess(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "grid") or (isinstance(value, Mapping) and "grid" in value)


def _guess(value: Any) -> Guess | None:
    """The guess of a candidate, a record or an array; None where its grid is none."""
    if isinstance(value, np.ndarray):
        value = {"grid": value}
    fields = value if isinstance(value, Mapping) else {name: getattr(value, name, None) for name in ("grid", "votes", "score")}
    cells = fields["grid"]
    try:
        grid = parse_grid(cells.tolist() if isinstance(cells, np.ndarray) else cells, "candidate")
    except FaultError:
        return None
    votes, score = fields.get("votes"), fields.get("score")
    return Guess(grid, votes if type(votes) is int else None, float(score) if isinstance(score, int | float) else None)


def _attempt(number: int, guess: Guess, votes: int, answer: Grid | None) -> Tile:
    said = [f"attempt {number}"]
    if guess.votes is not None and votes:
        said.append(f"{guess.votes} of {votes} votes")
    wrong = None
    if answer is not None and same_grid(guess.grid, answer):
        said.append("right")
    elif answer is not None and guess.grid.shape == answer.shape:
        wrong = guess.grid != answer
        n = int(wrong.sum())
        said.append(f"{n} {'cell' if n == 1 else 'cells'} wrong")
    elif answer is not None:
        said.append("wrong size")
    return Tile(", ".join(said), guess.grid, wrong)


def _numbered(text: str, k: int, n: int) -> str:
    return f"{text} {k + 1}" if n > 1 else text
