"""Sessions of one task, in this process, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.model.weights import build
from hrm_submit.solver.messages import Answer, Progress
from hrm_submit.solver.session import TaskSession, n_rows


def told(messages: Iterator[Any]) -> list[Progress | Answer]:
    """Progress and answers alone."""
    return [m for m in messages if isinstance(m, Progress | Answer)]


def fixed(preset: Preset, task: Task, segments: int, seed: int = 0, model_seed: int = 0) -> list[Progress | Answer]:
    """What a session of so many segments tells, by a new model of its own."""
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=model_seed)
    return told(TaskSession(model, embedding, task, preset, seed, Clock(), segments).run())


def with_vote(preset: Preset, **changed: Any) -> Preset:
    """The preset with other values in its `[vote]`."""
    return replace(preset, vote=replace(preset.vote, **changed))
