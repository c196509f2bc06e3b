"""Votes: test grids a second on each task's own canvas, against 16 fixed steps on 900 tokens; whether answers agree, and are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from hrm_submit.arc.augment import sample_augmentations
from hrm_submit.arc.task import Grid, Task
from hrm_submit.config.runtime import runtime_for
from hrm_submit.config.schema import Preset
from hrm_submit.corpora.scoring import score
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import Checkpoint, build_on
from hrm_submit.predict.answer import answer
from hrm_submit.predict.fallback import fallback_attempts
from hrm_submit.predict.vote import two_attempts
from lab.bench.published import ACT_STEPS, SIDE
from lab.bench.rows import Row, against
from lab.bench.timing import seconds
from lab.bench.work import ARC_1, sample, solutions

CPU_VIEWS = 8
"""Views of a vote on a CPU, where the published way takes seconds for each."""

Answers = Sequence[tuple[Grid, Grid]]


@dataclass(frozen=True)
class Voter:
    """Weights, and how they answer: `side` is the canvas of every task, None its own."""

    model: HRM
    embedding: TaskEmbedding
    preset: Preset
    side: int | None

    def answers(self, task: Task) -> Answers:
        """Two attempts at each test input."""
        rng, config = np.random.default_rng(0), self.preset.vote
        views = sample_augmentations(task, config.views, rng, colours=self.preset.ttt.colours)
        vote = answer(self.model, self.embedding, task, views, [0] * len(views), config, side=self.side)
        return [two_attempts(found, spare) for found, spare in zip(vote.outputs, fallback_attempts(task), strict=True)]


def rows(repeats: int, device: str, preset: Preset, checkpoint: Checkpoint, tasks: int) -> list[Row]:
    """The speed of both ways with the checkpoint's weights, and how their answers compare."""
    preset = with_views(preset, device)
    chosen = sample(ARC_1, tasks)
    ours, theirs = kit_voter(preset, checkpoint, device), published_voter(preset, checkpoint, device)
    fast: dict[str, float] = {}
    slow: list[float] = []
    found: dict[str, dict[str, Answers]] = {"kit": {}, "published": {}}
    ours.answers(chosen[0])  # warm-up; the published way's is its first task, of which the median is free
    for task in chosen:
        fast[task.id] = median(seconds(_keep(ours, task, found["kit"]), device) for _ in range(repeats))
        # On 900 tokens every test grid costs the same.
        slow.append(seconds(_keep(theirs, task, found["published"]), device) / len(task.test))
    grids = sum(len(task.test) for task in chosen)
    views, steps = preset.vote.views, min(preset.vote.act_steps, ours.model.cfg.halt_max_steps)
    return [
        against(
            "inference",
            f"nano, {views} views, own canvas, {steps} step{'s' * (steps > 1)}",
            "test grids/s",
            grids / sum(fast.values()),
            f"{ACT_STEPS} steps, 900 tokens",
            1 / median(slow),
            more={"tasks": tasks, **compared(chosen, found["kit"], found["published"])},
        )
    ]


def with_views(preset: Preset, device: str) -> Preset:
    """`preset` with as many views as `device` can be measured with."""
    views = preset.vote.views if device != "cpu" else CPU_VIEWS
    return replace(preset, vote=replace(preset.vote, views=views))


def kit_voter(preset: Preset, weights: Checkpoint, device: str) -> Voter:
    """Own canvas, as many steps as the model was trained with."""
    runtime = runtime_for(device, preset.device)
    return Voter(*build_on(runtime, weights), preset, None)


def published_voter(preset: Preset, weights: Checkpoint, device: str) -> Voter:
    """900 tokens and 16 steps, torch's own attention; the whole model compiled on a GPU."""
    runtime = replace(runtime_for(device, preset.device), attention="sdpa", kernels="torch")
    # A model trained with fewer steps is made to take them all.
    longer = replace(weights, config=replace(weights.config, halt_max_steps=ACT_STEPS))
    model, embedding = build_on(runtime, longer)
    if device != "cpu":
        model.compile(dynamic=False)
    return Voter(model, embedding, replace(preset, vote=replace(preset.vote, act_steps=ACT_STEPS)), SIDE)


def _keep(voter: Voter, task: Task, where: dict[str, Answers]) -> Callable[[], None]:
    def call() -> None:
        where[task.id] = voter.answers(task)

    return call


def compared(tasks: Sequence[Task], ours: Mapping[str, Answers], theirs: Mapping[str, Answers]) -> dict[str, float]:
    """The share of test grids whose first answers are equal, and what each way scores."""
    right = solutions(ARC_1, tasks)
    pairs = [(a[0], b[0]) for task in tasks for a, b in zip(ours[task.id], theirs[task.id], strict=True)]
    same = sum(a.shape == b.shape and bool((a == b).all()) for a, b in pairs) / len(pairs)
    return {"equal first answers": round(same, 3), "pass@2": score(ours, right)["pass@2"], "its pass@2": score(theirs, right)["pass@2"]}
