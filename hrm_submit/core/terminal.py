"""Where progress is shown: bars in a terminal, widgets in a notebook, one bar where a notebook lacks them, else plain lines.

Notable: tqdm draws; this module chooses, without a warning on the screen. A notebook's text output cannot move its cursor up, so it
shows one bar.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeAlias

from tqdm import tqdm

Place: TypeAlias = Literal["terminal", "widgets", "one line", "plain"]
"""What standard error is: a terminal, a notebook with or without widgets, or a file or pipe that keeps lines."""


def place() -> Place:
    """Find out what standard error is now."""
    if _in_kernel():
        return "widgets" if _widgets() else "one line"
    return "terminal" if sys.stderr.isatty() else "plain"


def bar(where: Place, **options: Any) -> Any:
    """Make a tqdm bar with `options`, disabled in a plain place."""
    if where == "widgets":
        from tqdm.notebook import tqdm as widget

        return widget(**options)
    return tqdm(disable=where == "plain", dynamic_ncols=True, **options)


def logs_above_bars(where: Place) -> AbstractContextManager[None]:
    """Show log lines above the bars of a terminal while the block runs."""
    if where != "terminal":
        return nullcontext()
    from tqdm.contrib.logging import logging_redirect_tqdm  # not above: in a notebook without widgets its import warns

    return logging_redirect_tqdm()


def _in_kernel() -> bool:
    """Whether this process is a notebook's kernel; one that never imported IPython is none."""
    get = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return getattr(get() if get else None, "kernel", None) is not None


def _widgets() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from tqdm import notebook
        except Exception:  # an ipywidgets of another age fails in its own ways
            return False
    return getattr(notebook, "IProgress", None) is not None
