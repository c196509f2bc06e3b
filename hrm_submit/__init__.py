"""Hierarchical Reasoning Model submissions for the ARC Prize: pre-train, test-time train, vote, submit.

From Python, one task at a time, from the weights that the package carries:

>>> import hrm_submit
>>> task = hrm_submit.load("arc-agi-1-evaluation")["00576224"]
>>> answer = hrm_submit.Solver().solve(task, seconds=20)
>>> len(answer.attempts), answer.attempts[0][0].shape
(1, (6, 6))
>>> right = hrm_submit.score(task, answer)["pass@2"]
>>> hrm_submit.show(task, answer)  # doctest: +ELLIPSIS
task 00576224
...

Several tasks: `Solver().solve_all(tasks, seconds=600)`. A run folder as tables: `open_run("submission.json.run")`.

In Jupyter tasks, answers and `show` are pictures. What is named here is imported when it is first asked for.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hrm_submit.version import __version__

if TYPE_CHECKING:
    from hrm_submit.corpora.scoring import score_answers as score
    from hrm_submit.corpora.sources import load
    from hrm_submit.report.show import show
    from hrm_submit.report.tables import read_tables as open_run
    from hrm_submit.solver.interface import Solver

__all__ = ["Solver", "__version__", "load", "open_run", "score", "show"]

_PLACES = {
    "Solver": ("hrm_submit.solver.interface", "Solver"),
    "load": ("hrm_submit.corpora.sources", "load"),
    "open_run": ("hrm_submit.report.tables", "read_tables"),
    "score": ("hrm_submit.corpora.scoring", "score_answers"),
    "show": ("hrm_submit.report.show", "show"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, found = _PLACES[name]
    return getattr(import_module(module), found)


def _show_in_jupyter() -> None:
    """Let a notebook's cell that ends with a task or an answer show its picture."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        page = shell.display_formatter.formatters["text/html"]
        for module, kind in (("hrm_submit.arc.task", "Task"), ("hrm_submit.solver.task_answer", "TaskAnswer")):
            page.for_type_by_name(module, kind, lambda shown: __getattr__("show")(shown)._repr_html_())


_show_in_jupyter()
