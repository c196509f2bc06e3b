"""A task to learn from, of any set."""

from dataclasses import dataclass, replace
from functools import cached_property

from hrm_submit.arc.canonical import pair_hashes
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Pair, Task


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """`task.train` are all pairs to learn from, `task.test` the test inputs without known answers."""

    task: Task
    """Its id is `CORPUS/KEY`, unique in a mix."""
    key: str
    """The id within its corpus. Tasks of one key in different corpora (ARC-AGI-1 and 2, RE-ARC) stand for the same rule."""
    weight: float = 1.0
    """How often it is drawn, relative to other tasks."""
    generated: bool = False
    """Whether a generator drew the pairs after the task of ARC with the id `key`, as for RE-ARC and ARC-GEN."""

    @property
    def id(self) -> str:
        return self.task.id

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return self.task.train

    @cached_property
    def hashes(self) -> tuple[str, ...]:
        """The canonical hash of each pair, computed once; about 0.1 ms a pair."""
        return pair_hashes(self.pairs)


def within(task: TrainingTask, side: int) -> TrainingTask | None:
    """Return `task` if a canvas of `side` holds it, a generated task with the pairs that fit, or None."""
    if canvas_side(task.task) <= side:
        return task
    fitting = tuple(p for p in task.pairs if max(*p.input.shape, *p.output.shape) <= side) if task.generated else ()
    return replace(task, task=replace(task.task, train=fitting)) if fitting else None
