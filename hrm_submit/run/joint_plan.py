"""Who still has to take part in joint training, until when, and which weights a worker that comes later starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hrm_submit.arc.task import Task
from hrm_submit.run.protocol import Joint, WorkerSpec

JOINT = "joint-*.safetensors"
"""What the files of joint training are called in a run folder."""


class JointPlan:
    """Joint training of a run: of `tasks` for the part `share` of the time until `end`, or of the segments that fixed work has.

    Nothing is to be done where `share` is 0, no folder is given, or an earlier run of the folder has done it.
    """

    def __init__(self, tasks: Sequence[Task], folder: Path | None, share: float, end: float, segments: int | None) -> None:
        self._tasks, self._share, self._end = tuple(tasks), share, end
        self._segments = None if segments is None else max(1, round(share * segments * len(self._tasks)))
        self._folder = folder if share > 0 and tasks else None
        self._until: float | None = None
        self._took_part: set[int] = set()
        self._weights = min(folder.glob(JOINT), default=None) if self._folder and folder else None

    def prepared(self, spec: WorkerSpec) -> WorkerSpec:
        """`spec` with the joint weights to start from, once there are any."""
        if self._weights is None:
            return spec
        self._took_part.add(spec.number)
        return replace(spec, checkpoint=self._weights)

    def next(self, spec: WorkerSpec, now: float) -> Joint | None:
        """The joint training that a worker, who is free, has still to do. All end at the same time."""
        if self._folder is None or spec.number in self._took_part:
            return None
        self._took_part.add(spec.number)
        seconds = None
        if self._segments is None:
            if self._until is None:
                self._until = now + self._share * (self._end - now)
            seconds = self._until - now
            if seconds <= 0:
                return None
        return Joint(self._tasks, seconds, self._segments, self._folder / JOINT.replace("*", str(spec.number)))

    def done(self, weights: Path) -> None:
        """A worker has finished it."""
        self._weights = self._weights or weights
