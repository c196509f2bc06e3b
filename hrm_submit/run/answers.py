"""Keep the answers of a run in the submission file, which is complete and valid from its first write, and in the run folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from hrm_submit.arc.entries import Entry
from hrm_submit.arc.submission import answers_text, joined
from hrm_submit.arc.task import Task
from hrm_submit.core.errors import SolveError
from hrm_submit.core.files import write_atomic
from hrm_submit.predict.vote import Outputs, two_attempts
from hrm_submit.record.events import Flush
from hrm_submit.record.folder import RunRecord, RunWriter
from hrm_submit.record.predictions import answers_from, fallback_answers

log = logging.getLogger(__name__)

CANDIDATES_KEPT = 10
"""Candidates of an output in the run folder."""
SAVING = 0.05
"""Most of the time that goes into the submission file, which is written whole: where that takes long, it is written less often."""


class AnswerStore:
    """Two attempts at every test output of every task of the file, broken tasks included; fallbacks to begin with.

    `create` writes the file, `record_in` names the run folder; from then on a disk that refuses raises nothing and is tried again.
    """

    def __init__(self, tasks: Mapping[str, Task], broken: Mapping[str, Entry], output: Path) -> None:
        self._fallbacks = fallback_answers(tasks, broken)
        self._attempts = {task: list(attempts) for task, attempts in self._fallbacks.items()}
        self._texts = {task: answers_text(attempts) for task, attempts in self._attempts.items()}
        self._output = output
        self.answered: set[str] = set()
        """Tasks for which a model gave at least one candidate."""
        self.latest: dict[str, Outputs] = {}
        """The newest candidates of each task in this run."""
        self._run: RunWriter | None = None
        self._finals: list[tuple[str, Outputs]] = []
        self._unsaved, self._save_from = True, 0.0
        self._fault: str | None = None

    def restore(self, record: RunRecord) -> set[str]:
        """Take over the newest predictions of a run folder; return the tasks whose every output has a final one."""
        for fault in record.damaged:
            log.warning("run folder: left out: %s", fault)
        found = answers_from(self._fallbacks, record.predictions)
        self._attempts, self.answered = found.attempts, found.answered
        self._texts = {task: answers_text(attempts) for task, attempts in self._attempts.items()}
        return found.final

    def create(self) -> None:
        """Write the file for the first time. Raises SolveError where it cannot be written."""
        fault = self._write()
        if fault:
            raise SolveError(f"{self._output}: cannot be written: {fault}")

    def record_in(self, run: RunWriter) -> None:
        """Record all further answers in the run folder too."""
        self._run = run

    def put(self, task: str, outputs: Outputs, *, final: bool) -> None:
        """Answer with the best two candidates of each output; an output without candidates keeps what it has.

        Mid-run candidates are recorded at once, `final` ones only when the submission file shows them.
        """
        self.latest[task] = outputs
        for k, candidates in enumerate(outputs):
            if candidates:
                self._attempts[task][k] = two_attempts(candidates, self._fallbacks[task][k])
                self.answered.add(task)
        text = answers_text(self._attempts[task])
        self._unsaved |= text != self._texts[task]
        self._texts[task] = text
        if final:
            self._finals.append((task, outputs))
            self.save()
        else:
            self._record(task, outputs, final=False)

    def save(self, *, last: bool = False) -> str | None:
        """Bring the submission file up to date, and only then record final answers: whenever the run is killed, what is final in the run
        folder is in the file. Return the fault where the file could not be written: the old one then stays."""
        began, unsaved = time.monotonic(), self._unsaved
        if unsaved and began < self._save_from and not last:
            return None
        fault = self._write() if unsaved else None
        for task, outputs in self._finals:
            self._record(task, outputs, final=True)
        self._finals.clear()
        if unsaved:
            self._save_from = began + (time.monotonic() - began) / SAVING
        if self._run:
            self._run.flush()
            if fault and fault != self._fault:  # recorded once, though it is tried again at every tick
                self._run.event(Flush("submission", f"{self._output}: {fault}"))
        self._fault = fault
        return fault and f"{self._output}: {fault}"

    def _write(self) -> str | None:
        """Write the file; return why it could not be."""
        try:
            write_atomic(self._output, joined(self._texts))
        except OSError as error:
            return error.strerror or str(error)
        self._unsaved = False
        return None

    def _record(self, task: str, outputs: Outputs, *, final: bool) -> None:
        if self._run:
            for k, candidates in enumerate(outputs):
                self._run.prediction(task, k, final, candidates[:CANDIDATES_KEPT])
