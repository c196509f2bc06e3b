"""Where progress is shown: bars in a terminal, widgets in a notebook, one bar where a notebook lacks them, else plain lines.

Notable: tqdm draws; this module chooses, without a warning on the screen. A notebook's text output cannot move its cursor up, so it
shows one bar.
"""

import sys
import warnings
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Literal, TypeAlias

from tqdm import tqdm

Place: TypeAlias = Literal["terminal", "widgets", "one line", "plain"]
"""What standard error is: a terminal, a notebook with or without widgets, or a file or pipe that keeps lines."""


def place() -> Place:
    """Find out what standard error is now."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()  # a kernel has imported IPython
    if getattr(shell, "kernel", None) is None:
        return "terminal" if sys.stderr.isatty() else "plain"
    with warnings.catch_warnings(action="ignore"), suppress(Exception):  # an ipywidgets of another age fails in its own ways
        from tqdm import notebook

        if getattr(notebook, "IProgress", None) is not None:
            return "widgets"
    return "one line"


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
