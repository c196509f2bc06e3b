"""Hierarchical Reasoning Model submissions for the ARC Prize: pre-train, test-time train, vote, submit.

`hrm_submit.show(task)` is a picture of a task, a prediction or a run; it is imported when it is first asked for.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "show":
        # By its name in a string: lower rooms import this package for its version, and must not depend on what reads solutions.
        return import_module("hrm_submit.report.show").show
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
