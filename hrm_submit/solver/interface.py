"""`hrm_submit.Solver`: tasks one at a time from Python, in this process, with a progress bar.

It works as the command `solve` does, so fixed work (`segments`) gives the same two attempts.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path

import torch

from hrm_submit.arc.reader import AnyTask, as_task, tasks_by_id
from hrm_submit.arc.task import Task
from hrm_submit.config.runtime import preset_of_cards, runtime_for
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import cards, cpu_count, list_devices, on_threads
from hrm_submit.core.errors import ConfigError
from hrm_submit.core.terminal import bar, logs_above_bars, place
from hrm_submit.model.packaged import members, packaged_checkpoint
from hrm_submit.predict.fallback import fallback_attempts
from hrm_submit.predict.vote import two_attempts
from hrm_submit.record.folder import training_warning
from hrm_submit.solver.messages import Message, Outcome, Progress
from hrm_submit.solver.solver import Ensemble, load_members
from hrm_submit.solver.task_answer import TaskAnswer

log = logging.getLogger(__name__)


class Solver:
    """A model that solves tasks one after the other, each from the same weights.

    `checkpoint`: a file of weights, `"none"` for random ones drawn from `seed`, None for the packaged ones. `preset`: names or TOML files
    as for `--preset`; without one, a GPU has the preset that suits it. `device`: `"auto"` (the first GPU that works, else the CPU),
    `"cpu"`, `"cuda:1"`. Raises ConfigError or CheckpointError.
    """

    def __init__(self, checkpoint: str | Path | None = None, preset: str = "", device: str = "auto", seed: int = 0) -> None:
        where = list_devices(device)[0]
        if where != "cpu":
            torch.cuda.set_device(where)
        preset = preset or preset_of_cards(cards([where]))
        path = packaged_checkpoint(preset) if checkpoint is None else None if str(checkpoint) == "none" else Path(checkpoint)
        if path is None and checkpoint is None:
            log.warning("%s", training_warning({"presets": preset, "checkpoint": None}))
        models = members(preset, path)
        self.preset = models[0].preset
        runtime = runtime_for(where, self.preset.device)
        self._solver = Ensemble.of(load_members(models), runtime, seed)
        with on_threads(runtime.threads):
            list(self._solver.warm_up())

    def solve(self, task: AnyTask, *, seconds: float | None = None, segments: int | None = None, progress: bool = True) -> TaskAnswer:
        """Train on the demonstrations of `task` for `seconds` or exactly `segments`, then vote.

        `task` may be a dict of lists as in ARC's files; outputs of its tests are not looked at. With `segments` the same seed gives the
        same answer on the same kind of machine. Raises ConfigError unless one limit is given and above zero, DataError for what is no task.
        """
        _check_limits(seconds, segments)
        task = as_task(task)
        clock, outcome = Clock(seconds), Outcome()
        # Spare cores help where time counts; where work is fixed, sums must not depend on their number.
        with on_threads(cpu_count() if segments is None else self._solver.first.runtime.threads):
            for message in _shown(self._solver.solve(task, seconds=seconds, segments=segments), task, clock, segments, progress):
                outcome.add(message)
        outputs = outcome.outputs or tuple(() for _ in task.test)
        return TaskAnswer(
            task=task,
            candidates=outputs,
            attempts=tuple(map(two_attempts, outputs, fallback_attempts(task))),
            views=outcome.views,
            segments=outcome.segments,
            demo_exact=outcome.demo_exact,
            seconds=clock.elapsed(),
            reason=outcome.reason,
        )

    def solve_all(
        self,
        tasks: Mapping[str, AnyTask] | Iterable[AnyTask],
        *,
        seconds: float | None = None,
        segments: int | None = None,
        progress: bool = True,
    ) -> dict[str, TaskAnswer]:
        """Solve `tasks` one after the other in `seconds` for all, or in `segments` each; returns the answers by id.

        Each task gets an equal part of the time that is left. Raises as `solve` does, DataError also for two tasks of one id.
        """
        _check_limits(seconds, segments)
        tasks = tasks_by_id(tasks)
        clock, answers, where = Clock(seconds), dict[str, TaskAnswer](), place() if progress else "plain"
        with logs_above_bars(where), bar(where, total=len(tasks), desc="tasks") as shown:
            for number, (key, task) in enumerate(tasks.items()):
                share = None if seconds is None else max(1e-3, clock.remaining()) / (len(tasks) - number)
                answers[key] = self.solve(task, seconds=share, segments=segments, progress=False)
                shown.update()
        return answers


def _check_limits(seconds: float | None, segments: int | None) -> None:
    """Raise ConfigError unless exactly one of them is given, as a number above zero."""
    limit, kind = (seconds, Real) if segments is None else (segments, Integral)
    if None not in (seconds, segments) or not isinstance(limit, kind) or not 0 < limit < math.inf:
        given = f"seconds={seconds!r}, segments={segments!r}"
        raise ConfigError(f"solve needs either seconds or segments, a number above zero; not {given}")


def _shown(messages: Iterator[Message], task: Task, clock: Clock, segments: int | None, progress: bool) -> Iterator[Message]:
    """Pass `messages` on, with a bar of the seconds or segments that have passed."""
    where = place() if progress else "plain"
    total, unit = (round(clock.budget or 0.0, 1), "s") if segments is None else (segments, "segments")
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} " + unit + "{postfix}"
    with logs_above_bars(where), bar(where, total=total, desc=task.id, bar_format=form) as shown:
        for message in messages:
            if isinstance(message, Progress):
                shown.set_postfix_str(f"loss {message.loss:.3f}, {message.demo_exact:.0%} of demonstrations exact", refresh=False)
            if segments is None:
                shown.update(min(clock.elapsed(), total) - shown.n)
            elif isinstance(message, Progress):
                shown.update(min(message.segments, total) - shown.n)
            yield message
        shown.update(total - shown.n)
