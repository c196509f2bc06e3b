"""The predictions of a run, a line of `predictions.jsonl` each, and the answers that they give."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hrm_submit.arc.entries import Entry
from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Grid, Task, make_grid, same_grid
from hrm_submit.predict.fallback import BLANK, fallback_attempts
from hrm_submit.predict.vote import Candidate, two_attempts
from hrm_submit.record.events import VERSION, number

CANDIDATES_KEPT = 10
"""Candidates of an output in the run folder."""
MOST_OUTPUTS = 10_000
"""No task has more test outputs; a larger number in a file would only cost memory."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The candidates of one test output after one vote, best first; none where no view gave a grid.

    `t`: seconds since the attempt began. `attempt`: number of the run's start, from 1, that `t` counts from (0 in a file that does
    not say). `final`: from the last vote of a training. `votes`: those for any grid, also for candidates that are not kept.
    """

    t: float
    task: str
    output: int
    final: bool
    attempt: int
    candidates: tuple[Candidate, ...]
    votes: int

    def to_json(self) -> dict[str, Any]:
        """Return the line's object."""
        line = {"v": VERSION, "t": round(self.t, 3), "attempt": self.attempt, "task": self.task, "output": self.output}
        return {**line, "final": self.final, "votes": self.votes, "candidates": [c.to_json() for c in self.candidates]}


def parse_prediction(line: Mapping[str, Any]) -> Prediction:
    """Read a line's object. Raises ValueError where a field is missing or a candidate is none."""
    t, task, output, attempt = number(line.get("t")), line.get("task"), line.get("output"), line.get("attempt", 0)
    if t is None or not isinstance(task, str) or type(output) is not int or type(attempt) is not int or attempt < 0:
        raise ValueError("a prediction lacks a time, a task, an output or an attempt")
    if not 0 <= output < MOST_OUTPUTS or not isinstance(line.get("candidates"), list):
        raise ValueError(f"task {task!r}: no output {output}, or no candidates")
    try:
        kept = tuple(map(Candidate.from_json, line["candidates"]))
    except ValueError as error:
        raise ValueError(f"a prediction of task {task!r}: {error}") from None
    least, votes = sum(c.votes for c in kept), line.get("votes")
    votes = votes if type(votes) is int and least <= votes < 2**53 else least  # folders of earlier versions do not tell
    return Prediction(t, task, output, line.get("final") is True, attempt, kept, votes)


@dataclass(frozen=True)
class Answers:
    """Two attempts at each test output, by task; which tasks have one from the model, and which have a final one for every output."""

    attempts: dict[str, list[Attempts]]
    answered: set[str]
    final: set[str]


def fallback_answers(tasks: Mapping[str, Task], broken: Mapping[str, Entry]) -> dict[str, list[Attempts]]:
    """Make two attempts at each test output without a model: first of all `tasks`, then of the `broken` ones."""
    made = {name: fallback_attempts(task) for name, task in tasks.items()}
    return made | {name: [_for_broken(grid) for grid in task.test] for name, task in broken.items()}


def answers_from(fallbacks: Mapping[str, Sequence[Attempts]], predictions: Iterable[Prediction]) -> Answers:
    """Answer with the newest predictions, with `fallbacks` where there are none; predictions of other tasks or outputs are ignored.

    A final prediction without candidates keeps the answer before it; a task without any stays open, for a run that resumes.
    """
    attempts = {task: list(spare) for task, spare in fallbacks.items()}
    answered, final = set[str](), set[tuple[str, int]]()
    for p in predictions:
        if p.output >= len(fallbacks.get(p.task, ())):
            continue
        if p.candidates:
            attempts[p.task][p.output] = two_attempts(p.candidates, fallbacks[p.task][p.output])
            answered.add(p.task)
        if p.final and p.task in answered:
            final.add((p.task, p.output))
    finished = {task for task, spare in fallbacks.items() if spare and all((task, k) in final for k in range(len(spare)))}
    return Answers(attempts, answered, finished)


def _for_broken(test_input: Grid | None) -> Attempts:
    first, second = BLANK if test_input is None else test_input, make_grid([[1]])
    return first, BLANK if same_grid(first, second) else second
