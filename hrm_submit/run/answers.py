"""The answers so far, and the submission file that always shows them: complete and valid from the first write to the last."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from hrm_submit.arc.challenges import BrokenTask
from hrm_submit.arc.submission import answers_text, joined
from hrm_submit.arc.task import Task
from hrm_submit.core.errors import SolveError
from hrm_submit.core.files import write_atomic
from hrm_submit.predict.vote import Candidate, two_attempts
from hrm_submit.record.folder import RunRecord
from hrm_submit.record.predictions import answers_from, fallback_answers

log = logging.getLogger(__name__)


class AnswerBook:
    """Two attempts for every test output of every task of the file, broken tasks included; fallbacks to begin with."""

    def __init__(self, tasks: Mapping[str, Task], broken: Mapping[str, BrokenTask], output: Path) -> None:
        self._fallbacks = fallback_answers(tasks, broken)
        self._answers = {task_id: list(attempts) for task_id, attempts in self._fallbacks.items()}
        self._texts = {task_id: answers_text(attempts) for task_id, attempts in self._answers.items()}
        self._output = output
        self._unsaved = True
        self.answered: set[str] = set()
        """Tasks for which a model gave at least one candidate."""

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
        """Take over the newest predictions of a run folder; returns the tasks whose every output has a final one."""
        for fault in record.damaged:
            log.warning("run folder: left out: %s", fault)
        found = answers_from(self._fallbacks, record.predictions)
        self._answers, self.answered = found.attempts, found.answered
        self._texts = {task_id: answers_text(attempts) for task_id, attempts in self._answers.items()}
        return found.final

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
