"""`watch`: a run of `solve` or of `pretrain` followed from another terminal, as a few lines of text.

Notable: how far the run is follows from its last line and from how long ago the file grew, so it works for a run of another process or
another machine.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hrm_submit.core.clock import format_duration
from hrm_submit.core.errors import SolveError
from hrm_submit.record.events import number
from hrm_submit.record.folder import check_no_file, read_description, read_events, read_lines
from hrm_submit.record.state import RunState
from hrm_submit.report.data import fit_of
from hrm_submit.report.picture import printable

QUIET = 600.0
"""Seconds without a new line after which a run may have been killed."""


def look(folder: Path, now: float | None = None) -> tuple[list[str], bool]:
    """Describe the run or pre-training in `folder`, which need not be there yet, and tell whether it has said that it is over.

    `now`: wall clock (default: the present), in seconds, as file times are.
    """
    events, metrics = folder / "events.jsonl", folder / "metrics.jsonl"
    log = next(filter(Path.is_file, (events, metrics)), None)
    if log is None:
        return [printable(f"waiting for a run in {folder}")], False
    age = max(0.0, (time.time() if now is None else now) - _changed(log))
    if log == events:
        state = RunState(read_events(folder)[0])
        ended, lines = state.attempt.ended, solve_lines(state, fit_of(read_description(folder, [])), age)
    else:
        records = read_lines(metrics, dict)[0]
        ended = _changed(folder / "metrics.svg") >= _changed(metrics)  # the picture is drawn last
        lines = pretrain_lines(records, ended, age)
    if not ended:
        lines.append(f"last line {format_duration(age)} ago" + ("; the run may have been killed" if age > QUIET else ""))
    return [printable(line) for line in (f"{folder}:", *lines)], ended


def follow(folder: Path, every: float | None, show: Callable[[list[str]], None]) -> None:
    """`show` the run in `folder` every `every` seconds until it ends, or once without `every`. Raises SolveError where it is a file, and
    without `every` where there is no run."""
    check_no_file(folder)
    if every is None and not any((folder / name).is_file() for name in ("events.jsonl", "metrics.jsonl")):
        raise SolveError(f"{folder}: there is no run here, neither of solve nor of pretrain")
    while True:
        lines, ended = look(folder)
        show(lines)
        if ended or every is None:
            return
        time.sleep(every)


def solve_lines(state: RunState, fit: float, age: float) -> list[str]:
    """Describe a solve run `age` seconds after its last event: counts, time, and a table of the workers."""
    attempt, given_up = state.attempt, state.given_up
    now = attempt.end if attempt.ended else attempt.end + age
    done = attempt.resumed + len(attempt.finals) + len(given_up)
    fits = sum(exact is not None and exact >= fit for exact in attempt.finals.values())
    counts = [f"{done} of {attempt.tasks} tasks done", f"{fits} fit their demonstrations"]
    counts += [f"{attempt.retries} tried again"] if attempt.retries else []
    counts += [f"{len(given_up)} given up"] if given_up else []
    if attempt.interrupted:
        counts.append(f"{attempt.interrupted} left when the run was stopped (the same command resumes)")
    passed = [f"ended after {format_duration(now)}" if attempt.ended else f"{format_duration(now)} gone"]
    if attempt.budget is not None and not attempt.ended:
        passed.append(f"{format_duration(max(0.0, attempt.budget - now))} left")
    lines = [f"{', '.join(counts)}; {', '.join(passed)}"]
    lines += [f"latest trouble: {state.trouble}"] if state.trouble else []
    return lines + _worker_table(state, now)


def _worker_table(state: RunState, now: float) -> list[str]:
    if not state.workers:
        return []
    from pandas import DataFrame

    rows = []
    for worker_number, worker in sorted(state.workers.items()):
        training = worker.training
        last = training.last if training else None
        rows.append(
            {
                "worker": worker_number,
                "device": worker.place,
                "task": training.task if training else "",
                "phase": worker.phase,
                "for": format_duration(max(0.0, now - worker.since)),
                "of": format_duration(training.planned) if training and training.planned is not None else "",
                "segments": last.segments if last else "",
                "loss": f"{last.loss:.3f}" if last and last.loss is not None else "",
                "demonstrations": f"{last.demo_exact:.0%}" if last and last.demo_exact is not None else "",
            }
        )
    return DataFrame(rows).to_string(index=False).split("\n")


def pretrain_lines(records: Sequence[Mapping[str, Any]], ended: bool, age: float) -> list[str]:
    """Describe a pre-training by its last line of training and its last validation: figures as `metrics.jsonl` names them."""
    newest: dict[bool, dict[str, float | None]] = {}
    for record in records:
        newest["validation_pass@2" in record] = {key: number(value) for key, value in record.items()}
    last = newest.get(False, {})
    progress, seconds = last.get("progress") or 0.0, last.get("seconds") or 0.0
    lines = [
        ", ".join(f"{k} {'not finite' if v is None else f'{v:.6g}'}" for k, v in values.items()) for _, values in sorted(newest.items())
    ]
    if ended:
        return [*lines, f"ended after {format_duration(seconds)}"]
    return [*lines, f"{format_duration(max(0.0, seconds * (1 - progress) / progress - age))} left"] if progress else lines


def _changed(path: Path) -> float:
    """When a file was last changed, in seconds of the wall clock; 0 where it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
