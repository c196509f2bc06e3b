"""Keep the answers of a run in the submission file, which is complete and valid from its first write, and in the run folder."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from hrm_submit.arc.entries import Entry
from hrm_submit.arc.submission import read_submission, to_json
from hrm_submit.arc.task import Task, same_grid
from hrm_submit.core.errors import DataError, SolveError
from hrm_submit.core.files import write_atomic
from hrm_submit.predict.fallback import BLANK
from hrm_submit.predict.vote import Outputs, two_attempts
from hrm_submit.record.events import Flush
from hrm_submit.record.folder import RunRecord, RunWriter
from hrm_submit.record.predictions import answers_from, fallback_answers

log = logging.getLogger(__name__)

SAVING = 0.05
"""Most of the time that goes into the submission file, which is written whole: where that takes long, it is written less often."""
LONGEST_PAUSE = 60.0
"""Seconds between two writes, at most: a machine that sleeps during one would look like a very slow disk."""


class AnswerStore:
    """Two attempts at every test output of every task of the file, broken tasks included; fallbacks to begin with.

    `create` writes the file, `record_in` names the run folder and the clock. From then on a disk that refuses raises nothing and is tried
    again.
    """

    def __init__(self, tasks: Mapping[str, Task], broken: Mapping[str, Entry], output: Path) -> None:
        self._fallbacks = fallback_answers(tasks, broken)
        self._attempts = {task: list(attempts) for task, attempts in self._fallbacks.items()}
        self._output = output
        self.answered: set[str] = set()
        """Tasks for which a model gave at least one candidate."""
        self._run: RunWriter | None = None
        self._now: Callable[[], float] = lambda: 0.0
        self._unsaved, self._save_from = True, 0.0
        self._fault: str | None = None

    def restore(self, record: RunRecord) -> set[str]:
        """Take over the newest predictions of a run folder; return the tasks whose every output has a final one.

        A task without any takes over the answers of the file that is there: a disk may have refused or damaged its predictions. They do
        not count as the model's, as they may be fallbacks.
        """
        for fault in record.damaged:
            log.warning("run folder: left out: %s", fault)
        found = answers_from(self._fallbacks, record.predictions)
        self._attempts, self.answered = found.attempts, found.answered
        with suppress(DataError):
            there = read_submission(self._output)[0]
            for task, fallback in self._fallbacks.items():
                own = there.get(task, ())
                # What `start` writes before the tasks are read is less than a fallback.
                whole = len(own) == len(fallback) and all(a.size and b.size and not same_grid(b, BLANK) for a, b in own)
                if whole and task not in self.answered:
                    self._attempts[task] = list(own)
        return found.final

    def create(self) -> None:
        """Write the file, in a new folder where there is none. Raises SolveError where it cannot be written."""
        try:
            self._output.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._output, to_json(self._attempts))
        except OSError as error:
            raise SolveError(f"{self._output}: cannot be written: {error.strerror or error}") from None
        self._unsaved = False

    def record_in(self, run: RunWriter, now: Callable[[], float]) -> None:
        """Record all further answers in the run folder too. `now`: seconds since the run began."""
        self._run, self._now = run, now

    def put(self, task: str, outputs: Outputs, *, final: bool) -> None:
        """Answer with the best two candidates of each output; an output without candidates keeps what it has.

        They are in the run folder when this returns, unless the disk refuses; the submission file may follow later.
        """
        for k, candidates in enumerate(outputs):
            if self._run:
                self._run.prediction(task, k, final, candidates)
            if candidates:
                attempts = two_attempts(candidates, self._fallbacks[task][k])
                self._unsaved |= not all(map(same_grid, attempts, self._attempts[task][k]))
                self._attempts[task][k] = attempts
                self.answered.add(task)
        if final:
            self.save()

    def save(self, *, last: bool = False) -> str | None:
        """Bring the submission file up to date, unless the last write is too recent and this is not the `last`; write to the run folder
        what waits. Return the fault of the newest write where it failed: the old file then stays, if there is one."""
        began = self._now()
        if (last or began >= self._save_from) and (self._unsaved or not os.path.isfile(self._output)):
            fault = None
            try:
                self.create()
            except SolveError as error:
                fault = str(error)
            self._save_from = began + min(LONGEST_PAUSE, (self._now() - began) / SAVING)
            if self._run and fault and fault != self._fault:  # recorded once, though it is tried again at every tick
                self._run.event(Flush("submission", fault))
            self._fault = fault
        if self._run:
            self._run.flush()
        return self._fault
