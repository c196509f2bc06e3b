"""The first moments of `solve`: watch the time limit, lock the run, write fallback answers.

Notable: a busy machine may need longer than the budget to import numpy, so all of this needs the standard library alone.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hrm_submit.core.clock import Clock
from hrm_submit.core.errors import SolveError
from hrm_submit.core.files import check_regular, open_regular, write_atomic
from hrm_submit.core.process import locked
from hrm_submit.run.options import SolveOptions

log = logging.getLogger(__name__)

GRACE = 0.5
"""Seconds after the budget in which a run may still end by itself; the supervisor's own end is before the budget."""
MOST_BYTES = 2**28
"""Larger files are left to the reader."""
LATE, INCOMPLETE = 1, 3
"""Exit status of a run that was ended at its time limit: the submission file is complete, or is not."""


@contextmanager
def started(options: SolveOptions, clock: Clock) -> Iterator[Watchdog]:
    """Hold the run for the block; its fallback answers are in the file where the challenges have Kaggle's form. Raises SolveError."""
    output = options.output
    with Watchdog(clock, output) as watchdog:
        try:
            if output.exists():
                check_regular(output)
                if os.path.exists(options.challenges) and output.samefile(options.challenges):
                    raise SolveError(f"{output}: cannot be both the challenges and the submission file")
        except OSError as error:
            raise SolveError(f"{output}: cannot be written: {error.strerror or error}") from None
        target = Path(os.path.realpath(output))  # two links to one file are one output
        with locked(options.run_dir / "lock", options.run_dir), locked(target.with_name(f".{target.name}.lock"), output):
            watchdog.complete = _write_fallback(options)
            yield watchdog


class Watchdog:
    """Ends the process and its workers shortly after the clock's budget, if it has one; `complete` says of the submission file which
    exit status that gives.

    A thread does it, so a main thread that waits for a disk, a pipe or a driver holds up nothing. Where the main thread waits
    without releasing Python's lock, as in loading a library, faulthandler's thread, which needs no lock, ends the process; the workers
    then find their pipes closed.
    """

    def __init__(self, clock: Clock, output: Path) -> None:
        self.complete = False
        self._output = output
        self._seconds = None if clock.budget is None else max(0.0, clock.remaining()) + GRACE

    def __enter__(self) -> Watchdog:
        if self._seconds is not None:
            self._nowhere = os.open(os.devnull, os.O_WRONLY)
            faulthandler.dump_traceback_later(self._seconds + GRACE / 2, exit=True, file=self._nowhere)
            self._timer = threading.Timer(self._seconds, self._end)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._seconds is not None:
            self._timer.cancel()
            faulthandler.cancel_dump_traceback_later()
            os.close(self._nowhere)

    def _end(self) -> None:
        for worker in multiprocessing.active_children():
            worker.kill()
        state = "complete" if self.complete else "not complete"
        # not through the log, whose lock the main thread may hold
        os.write(2, f"hrm-submit: ended at the time limit; {self._output} is {state}\n".encode(errors="replace"))
        os._exit(LATE if self.complete else INCOMPLETE)


def _write_fallback(options: SolveOptions) -> bool:
    """Write fallback answers unless the file is complete; return whether it is now. Nothing is written where the challenges are in
    another form than Kaggle's, or unusable, or not those of the run folder: the reader says so."""
    text, content = _read(options.challenges)
    if not isinstance(content, dict) or not any(_is_task(value) for value in content.values()):
        return False
    run, digest = _read(options.run_dir / "run.json")[1], hashlib.sha256(text).hexdigest()
    if isinstance(run, dict) and run.get("challenges_sha256", digest) != digest:
        return False
    answers = {name: [{"attempt_1": grid, "attempt_2": [[0]]} for grid in _inputs(task)] for name, task in content.items()}
    if _is_complete(_read(options.output)[1], answers):
        return True
    with suppress(OSError):  # tried again when the reader has made better ones
        write_atomic(options.output, json.dumps(answers))
        return True
    return False


def _read(path: Path) -> tuple[bytes, Any]:
    """Return the bytes and the value of a JSON file; b"" and None where there is none."""
    with suppress(OSError, ValueError, RecursionError), open_regular(path, MOST_BYTES) as file:
        text = file.read()
        return text, json.loads(text)
    return b"", None


def _is_task(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), list) and value[key] for key in ("train", "test"))


def _inputs(task: Any) -> list[Any]:
    """Return a grid for each test input, at least one: the input where it is a grid, else a blank."""
    tests = task.get("test") if isinstance(task, dict) else None
    given = [test.get("input") if isinstance(test, dict) else None for test in tests] if isinstance(tests, list) else []
    return [grid if _is_grid(grid) else [[1]] for grid in given or [None]]


def _is_grid(value: Any) -> bool:
    if not isinstance(value, list) or not 0 < len(value) <= 30 or not all(isinstance(row, list) for row in value):
        return False
    return 0 < len(value[0]) <= 30 and all(len(r) == len(value[0]) and all(type(c) is int and 0 <= c <= 9 for c in r) for r in value)


def _is_complete(submission: Any, answers: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether a submission answers what `answers` do, and nothing else."""
    if not isinstance(submission, dict) or submission.keys() != answers.keys():
        return False
    if not all(isinstance(outputs, list) and len(outputs) == len(answers[name]) for name, outputs in submission.items()):
        return False
    given = [answer for outputs in submission.values() for answer in outputs]
    return all(isinstance(a, dict) and _is_grid(a.get("attempt_1")) and _is_grid(a.get("attempt_2")) for a in given)
