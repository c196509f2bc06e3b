"""The answers so far, and the submission file that always shows them: complete and valid from the first write to the last."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from hrm_submit.arc.challenges import BrokenTask
from hrm_submit.arc.submission import Attempts, answers_text, joined
from hrm_submit.arc.task import Grid, Task, make_grid, same_grid
from hrm_submit.core.errors import SolveError
from hrm_submit.core.files import write_atomic
from hrm_submit.predict.fallback import BLANK, fallback_attempts
from hrm_submit.predict.vote import Candidate, two_attempts
from hrm_submit.record.folder import RunRecord

log = logging.getLogger(__name__)


class AnswerBook:
    """Two attempts for every test output of every task of the file, broken tasks included; fallbacks to begin with."""

    def __init__(self, order: list[str], tasks: Mapping[str, Task], broken: Mapping[str, BrokenTask], output: Path) -> None:
        self._fallbacks: dict[str, list[Attempts]] = {}
        for task_id in order:
            if task_id in tasks:
                self._fallbacks[task_id] = fallback_attempts(tasks[task_id])
            else:
                self._fallbacks[task_id] = [_for_broken(grid) for grid in broken[task_id].test_inputs]
        self._answers = {task_id: list(attempts) for task_id, attempts in self._fallbacks.items()}
        self._texts = {task_id: answers_text(attempts) for task_id, attempts in self._answers.items()}
        self._output = output
        self._unsaved = True
        self.answered: set[str] = set()
        """Tasks for which a model gave at least one candidate."""

    @property
    def answers(self) -> dict[str, tuple[Attempts, ...]]:
        """What the file shows or will show next: two attempts for each output of each task, in the file's order."""
        return {task: tuple(attempts) for task, attempts in self._answers.items()}

    def put(self, task: str, outputs: tuple[tuple[Candidate, ...], ...]) -> None:
        """Take the best two candidates of each output; an output without candidates keeps what it has."""
        for k, candidates in enumerate(outputs):
            if candidates:
                self._answers[task][k] = two_attempts(candidates, self._fallbacks[task][k])
                self.answered.add(task)
        text = answers_text(self._answers[task])
        self._unsaved |= text != self._texts[task]
        self._texts[task] = text

    def restore(self, record: RunRecord) -> set[str]:
        """Take over the newest predictions of a run folder; returns the tasks whose every output has a final one.

        A prediction that does not fit the challenges (task, output, grid) is skipped.
        """
        final: dict[str, set[int]] = {}
        for line in record.predictions:
            try:
                task, k = str(line["task"]), int(line["output"])
                candidates = tuple(map(Candidate.from_json, line["candidates"]))
                if not 0 <= k < len(self._answers[task]):
                    raise ValueError(f"no output {k}")
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                log.warning("run folder: a prediction is skipped: %s", error)
                continue
            self.put(task, tuple(candidates if i == k else () for i in range(len(self._answers[task]))))
            if line.get("final") is True:
                final.setdefault(task, set()).add(k)
        return {task for task, outputs in final.items() if len(outputs) == len(self._answers[task])}

    def create(self) -> None:
        """Write the file for the first time. Raises SolveError where it cannot be written."""
        try:
            write_atomic(self._output, joined(self._texts))
        except OSError as error:
            raise SolveError(f"{self._output}: cannot be written: {error.strerror or error}") from None
        self._unsaved = False

    @property
    def unsaved(self) -> bool:
        """Whether the file lacks something."""
        return self._unsaved

    def save(self) -> str | None:
        """Bring the file up to date; where that fails the old file stays, and the fault is returned for the run folder."""
        if not self._unsaved:
            return None
        try:
            write_atomic(self._output, joined(self._texts))
        except OSError as error:
            return f"{self._output}: {error.strerror or error}"
        self._unsaved = False
        return None


def _for_broken(grid: Grid | None) -> Attempts:
    first = BLANK if grid is None else grid
    second = make_grid([[1]])
    return first, BLANK if same_grid(first, second) else second
