"""What a run has answered so far, kept: the submission file first, the run folder after it, each as often as time allows."""

from __future__ import annotations

import time
from typing import Any

from hrm_submit.core.clock import Clock
from hrm_submit.predict.vote import Outputs
from hrm_submit.record import events
from hrm_submit.record.folder import RunWriter
from hrm_submit.run.answers import AnswerBook

SAVING = 0.05
"""Most of the time that goes into the submission file, which is written whole: where that takes long, it is written less often."""
CANDIDATES_KEPT = 10
"""Candidates of an output in predictions.jsonl."""
FEW, DESCRIBED = 16, 10.0
"""Workers up to which `run.json` is written anew for each that gets ready; of more, so many seconds lie between two writes."""


class Keeper:
    """The answers of one run, on their way to the disk. Nothing here raises for a disk that refuses: it is tried again."""

    def __init__(self, book: AnswerBook, run: RunWriter, clock: Clock) -> None:
        self._book, self._run, self._clock = book, run, clock
        self.latest: dict[str, Outputs] = {}
        """The newest candidates of each task."""
        self._finals: list[tuple[str, Outputs]] = []
        self._workers: dict[str, Any] = {}
        self._undescribed, self._described = False, 0.0
        self._fault: str | None = None
        self._save_from = 0.0

    def put(self, task: str, outputs: Outputs, *, final: bool) -> None:
        """Take the candidates of a task; those that are `final` reach the run folder only once the submission file shows them."""
        self.latest[task] = outputs
        self._book.put(task, outputs)
        if final:
            self._finals.append((task, outputs))
            self.save()
        else:
            self._record(task, outputs, final=False)

    def worker(self, number: int, runtime: dict[str, Any]) -> None:
        """Note for `run.json` how a worker runs."""
        self._workers[str(number)] = runtime
        self._undescribed = True

    def save(self, *, last: bool = False) -> None:
        """Bring the submission file up to date, and only then the run folder: what is final there is in the file, whenever the run is
        killed."""
        began, wrote = time.monotonic(), self._book.unsaved
        if wrote and began < self._save_from and not last:
            return
        fault = self._book.save()
        for task, outputs in self._finals:
            self._record(task, outputs, final=True)
        self._finals.clear()
        self._describe(last)
        self._run.flush()
        if wrote:
            self._save_from = began + (time.monotonic() - began) / SAVING
        if fault and fault != self._fault:  # told once, though it is tried again at every tick
            self._run.event(events.Flush("submission", fault))
        self._fault = fault

    def _describe(self, last: bool) -> None:
        now = self._clock.elapsed()
        if self._undescribed and (last or len(self._workers) <= FEW or now - self._described >= DESCRIBED):
            self._run.describe({"workers": self._workers})
            self._undescribed, self._described = False, now

    def _record(self, task: str, outputs: Outputs, *, final: bool) -> None:
        for k, candidates in enumerate(outputs):
            self._run.prediction(task, k, final, candidates[:CANDIDATES_KEPT])
