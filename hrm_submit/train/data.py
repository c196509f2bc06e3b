"""The data of a pre-training run: the mix without leaks, and the held-out set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hrm_submit.arc.task import Solutions, Task
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.core.errors import TrainError
from hrm_submit.corpora.leaks import protected_hashes, without_leaks
from hrm_submit.corpora.sources import load_corpora, load_source, parse_spec
from hrm_submit.train.options import PROTECTED

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOut:
    """A set to measure pass@2 on, never to train on."""

    name: str
    tasks: Mapping[str, Task]
    solutions: Solutions


def held_out(source: str) -> HeldOut:
    """Load the set of `--validate`. Raises DataError; TrainError if it has no solutions."""
    _, tasks, solutions = load_source(source)
    if not solutions:
        raise TrainError(f"--validate {source}: has no solutions to measure by")
    return HeldOut(source, tasks, solutions)


def training_tasks(data: str, held: HeldOut | None, *, strict: bool = False, protect: Sequence[str] = PROTECTED) -> list[TrainingTask]:
    """Load the mix `data` without tasks that share a pair with a protected set: those of `protect`, and `held`.

    Of a protected set that the mix names with `:demos`, only the test pairs are protected. Raises DataError for data that cannot be
    loaded, TrainError if no task is left.
    """
    corpora = load_corpora(data, strict=strict)
    tasks = [task for corpus in corpora for task in corpus.tasks]
    names = [*dict.fromkeys([*protect, *([held.name] if held else [])])]
    deliberate = {parse_spec(spec)[0] for spec, corpus in zip(data.split(","), corpora, strict=True) if corpus.demos_only}
    kept, dropped = without_leaks(tasks, protected_hashes(names, test_only=[n for n in names if n in deliberate]))
    for task_id, reason in dropped:
        log.info("left out: %s %s", task_id, reason)
    if not kept:
        raise TrainError(f"--data {data}: no task is left to train on")
    mix = ", ".join(corpus.name + (":demos" if corpus.demos_only else "") for corpus in corpora)
    log.info("%s: %d tasks, %d of %d left out as leaks", mix, len(kept), len(dropped), len(tasks))
    return kept
