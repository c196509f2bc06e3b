"""Choose tasks of a set as `ChoiceOptions` ask for."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from hrm_submit.arc.jsonio import read_bytes
from hrm_submit.arc.options import ChoiceOptions
from hrm_submit.arc.task import Task
from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.core.options import names


def chosen(
    choice: ChoiceOptions,
    tasks: Mapping[str, Task | None],
    source: str | Path,
    left: Callable[[Path], Collection[str]],
    broken: Collection[str] = (),
) -> list[str]:
    """Choose ids of `tasks`, in their order.

    `left`: the tasks of a run folder that `unsolved_of` takes. `broken`: tasks of `source` that may be named but are not chosen.
    Raises ConfigError where no task is named, DataError for an unknown task and where none is left.
    """
    ids, named = list(tasks), list[str]()
    if choice.tasks is not None:
        named = _named(choice.tasks, {*tasks, *broken})
        if unknown := [name for name in named if name not in tasks and name not in broken]:
            raise DataError(f"{source}: has no task {', '.join(unknown)}")
        ids = [task for task in ids if task in named]
    if choice.max_side is not None:
        ids = [name for name in ids if (task := tasks[name]) and task.largest_side <= choice.max_side]
    if choice.unsolved_of is not None:
        unsolved = left(choice.unsolved_of)
        ids = [task for task in ids if task in unsolved]
    if choice.random is not None:
        drawn = np.random.default_rng(choice.seed).permutation(len(ids))[: choice.random]
        ids = [ids[k] for k in sorted(drawn.tolist())]
    ids = ids[: choice.first]
    if not ids and not {*named} & {*broken}:
        raise DataError(f"{source}: no task is left of those asked for")
    return ids


def _named(text: str, known: Collection[str]) -> list[str]:
    """Read `ID,ID`, or `@F`, a file with an id on each line; `#` begins a comment line."""
    found = list(names(text))
    if text.startswith("@") and text not in known:
        lines = [line.strip() for line in read_bytes(text[1:]).decode("utf-8", "replace").splitlines()]
        found = [line for line in lines if line and (line in known or not line.startswith("#"))]
    if not found:
        raise ConfigError(f"--tasks {text}: names no task")
    return found
