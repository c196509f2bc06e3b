"""Hierarchical Reasoning Model submissions for the ARC Prize: pre-train, test-time train, vote, submit.

`hrm_submit.show(task)` is a picture of a task, a prediction or a run; it is imported when it is first asked for.
"""

from typing import Any

from hrm_submit.version import __version__

__all__ = ["__version__", "show"]


def __getattr__(name: str) -> Any:
    if name == "show":
        from hrm_submit.report.screen.show import show

        return show
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
