"""`watch`: a run of `solve` or of `pretrain` followed from another terminal, as a few lines of text.

Notable: how far the run is follows from its last line and from how long ago the file grew, so it works for a run of another process or
another machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
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
    if events.is_file():
        state, age = RunState(read_events(folder)[0]), _age(events, now)
        ended, lines = state.attempt.ended, solve_lines(state, fit_of(read_description(folder, [])), age)
    elif metrics.is_file():
        records, age = read_lines(metrics, dict)[0], _age(metrics, now)
        validations = [record for record in records if "validation_pass@2" in record]
        last: Mapping[str, Any] = next((record for record in reversed(records) if "validation_pass@2" not in record), {})
        ended = _newer(folder / "metrics.svg", metrics)  # the picture is drawn last
        lines = pretrain_lines(last, validations[-1] if validations else {}, ended, age)
    else:
        return [printable(f"waiting for a run in {folder}")], False
    if not ended:
        lines.append(f"last line {format_duration(age)} ago" + ("; the run may have been killed" if age > QUIET else ""))
    return [printable(line) for line in (f"{folder}:", *lines)], ended


def look_once(folder: Path) -> list[str]:
    """Describe the run in `folder` as it is now. Raises SolveError where there is none."""
    check_no_file(folder)
    if not any((folder / name).is_file() for name in ("events.jsonl", "metrics.jsonl")):
        raise SolveError(f"{folder}: there is no run here, neither of solve nor of pretrain")
    return look(folder)[0]


def follow(folder: Path, every: float, show: Callable[[list[str]], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """`show` the run in `folder` every `every` seconds until it ends. Raises SolveError for a file."""
    check_no_file(folder)
    while True:
        lines, ended = look(folder)
        show(lines)
        if ended:
            return
        sleep(every)


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


def pretrain_lines(last: Mapping[str, Any], validation: Mapping[str, Any], ended: bool, age: float) -> list[str]:
    """Describe a pre-training by its last line of training and its last validation."""
    value = {key: number(x) for key, x in last.items()}
    loss, progress, seconds = value.get("loss"), value.get("progress"), value.get("seconds") or 0.0
    said = [
        f"segment {value.get('segment') or 0:.0f}: loss {'not finite' if loss is None else f'{loss:.3f}'}",
        f"exact {value.get('exact') or 0:.1%}",
        f"{value.get('examples_per_second') or 0:.0f} examples/s",
        f"{progress or 0:.0%} done",
    ]
    if ended:
        said.append(f"ended after {format_duration(seconds)}")
    elif progress:
        said.append(f"{format_duration(max(0.0, seconds * (1 - progress) / progress - age))} left")
    lines = [", ".join(said)]
    score = number(validation.get("validation_pass@2"))
    if score is not None:
        lines.append(f"validation at segment {number(validation.get('segment')) or 0:.0f}: pass@2 {score:.1%}")
    return lines


def _age(path: Path, now: float | None) -> float:
    """Seconds since a file last grew; 0 where it has gone."""
    try:
        return max(0.0, (time.time() if now is None else now) - path.stat().st_mtime)
    except OSError:
        return 0.0


def _newer(path: Path, than: Path) -> bool:
    try:
        return path.stat().st_mtime >= than.stat().st_mtime
    except OSError:
        return False
