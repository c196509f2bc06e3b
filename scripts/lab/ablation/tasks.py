"""Which tasks a run learns from and which it is measured on; that no pair of the latter is among what the former teach."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hrm_submit.arc.canonical import pair_hash
from hrm_submit.arc.challenges import load_challenges
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Grid, Pair, Solutions, Task
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.corpora.leaks import without_leaks
from hrm_submit.corpora.solutions import solved_pairs
from hrm_submit.corpora.sources import answers_of, load_corpora, load_source
from lab.ablation.plan import TaskChoice


@dataclass(frozen=True, eq=False)
class Chosen:
    """Tasks of one source and the answers to their tests; `name` is the source's, as in the ids of training tasks."""

    name: str
    tasks: Mapping[str, Task]
    solutions: Solutions

    def test_hashes(self) -> frozenset[str]:
        """Canonical hashes of all test pairs. Raises DataError where inputs and answers differ in number."""
        return _hashes(pair for task_id, task in self.tasks.items() for pair in solved_pairs(task, tuple(self.solutions[task_id])))

    def demo_hashes(self) -> frozenset[str]:
        """Canonical hashes of all demonstrations."""
        return _hashes(pair for task in self.tasks.values() for pair in task.train)


@dataclass(frozen=True, eq=False)
class Material:
    """`sources` to train on, whose pairs hold no answer of `measured`; `trained_as` is the id among them of each measured task whose
    demonstrations are; `left_out` counts tasks of a mix that shared a pair with what is measured."""

    sources: tuple[TrainingTask, ...]
    measured: Chosen
    trained_as: Mapping[str, str] = field(default_factory=dict)
    left_out: int = 0

    def digest(self) -> str:
        """SHA-256 of all of it, by content."""
        h = hashlib.sha256()
        for source in self.sources:
            h.update(f"{source.id} {source.weight}".encode())
            _add(h, source.task)
        for task_id, task in self.measured.tasks.items():
            h.update(f"{task_id} {self.trained_as.get(task_id)}".encode())
            _add(h, task, self.measured.solutions[task_id])
        return h.hexdigest()


def choose(choice: TaskChoice, where: str) -> Chosen:
    """The tasks of `choice` that have solutions, by id. Raises DataError as loading does, ConfigError where too few are left."""
    if choice.solutions:
        name, tasks = Path(choice.challenges).stem, load_challenges(choice.challenges)
        solutions: Solutions = answers_of(choice.solutions)
    else:
        name, tasks, solutions = load_source(choice.source)
    known = {task_id: tasks[task_id] for task_id in sorted(tasks) if solutions.get(task_id)}
    if not known:
        raise DataError(f"{choice.source}: has no solutions to measure by")
    if choice.ids:
        missing = [task_id for task_id in choice.ids if task_id not in known]
        if missing:
            raise ConfigError(f"{where}: {choice.source} has no task {missing[0]} with a solution")
        picked = [task_id for task_id in known if task_id in set(choice.ids)]
    else:
        fitting = [task_id for task_id, task in known.items() if canvas_side(task) <= choice.max_side]
        if len(fitting) < max(1, choice.number):
            raise ConfigError(f"{where}: {choice.source} has {len(fitting)} tasks of side {choice.max_side} or less")
        drawn = np.random.default_rng(choice.seed).permutation(len(fitting))[: choice.number or None]
        picked = [fitting[k] for k in sorted(drawn)]
    return Chosen(name, {task_id: known[task_id] for task_id in picked}, {task_id: solutions[task_id] for task_id in picked})


def training_material(tasks: Chosen | None, data: str, evaluate: Chosen | None, where: str) -> Material:
    """What a run of kind "train" learns from: the demonstrations of `tasks`, and of the mix `data` all pairs but those of tasks that share
    one with what is measured: with the test pairs of `tasks`, or with any pair of `evaluate` where that is given.

    Raises ConfigError where `tasks` and `evaluate` share a pair or nothing is left, and DataError as loading does.
    """
    measured = evaluate or tasks
    assert measured is not None
    own = (
        tuple(TrainingTask(Task(f"{tasks.name}/{key}", task.train, task.test), tasks.name, key) for key, task in tasks.tasks.items())
        if tasks
        else ()
    )
    barred = measured.test_hashes()
    if evaluate:
        barred |= evaluate.demo_hashes()
        shared = without_leaks(own, barred)[1]
        if shared:
            raise ConfigError(f"{where}: [tasks] and [evaluate] are not apart: {shared[0][0]} {shared[0][1]}")
    mixed = [task for corpus in load_corpora(data) for task in corpus.tasks] if data else []
    known = {task.id for task in own}
    kept, dropped = without_leaks([task for task in mixed if task.id not in known], barred)
    if not own and not kept:
        raise ConfigError(f"{where}: data = {data!r} leaves no task to train on")
    trained_as = {} if evaluate or not tasks else {key: f"{tasks.name}/{key}" for key in tasks.tasks}
    return Material((*own, *kept), measured, trained_as, len(dropped))


def check_untrained(hashes: Iterable[str], measured: Chosen, where: str) -> None:
    """Raise ConfigError where a test pair of `measured` is among the pairs, by canonical `hashes`, that weights were trained on."""
    shared = len(measured.test_hashes() & set(hashes))
    if shared:
        raise ConfigError(f"{where}: was trained on {shared} of the test pairs that it would be measured on")


def _hashes(pairs: Iterable[Pair]) -> frozenset[str]:
    return frozenset(pair_hash(pair.input, pair.output) for pair in pairs)


def _add(h: hashlib._Hash, task: Task, outputs: Iterable[Grid] = ()) -> None:
    h.update(f"{task.id} {len(task.train)} {len(task.test)}".encode())
    for grid in (*task.grids(), *outputs):
        h.update(f"{grid.shape}".encode() + grid.tobytes())
