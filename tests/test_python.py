"""The package from Python: the five lines of its docstring, and what a notebook's kernel shows of them."""

import doctest
from pathlib import Path

import nbclient
import nbformat
import pytest

import hrm_submit
from tests.run.lab import tiny


def test_the_five_lines_of_the_docstring() -> None:
    done = doctest.testmod(hrm_submit)
    assert done.failed == 0 and done.attempted == 6
    with pytest.raises(AttributeError, match="no attribute 'shwo'"):
        _ = hrm_submit.shwo


def test_readme_has_the_same_lines() -> None:
    lines = [line.removeprefix(">>> ").split("  #")[0] for line in (hrm_submit.__doc__ or "").splitlines() if line.startswith(">>> ")]
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    shown = [line for line in readme.split("```python\n")[1].split("```")[0].splitlines() if line]
    assert shown == [line for line in lines if not line.startswith("len(")]


def test_a_kernel_shows_pictures(tmp_path: Path) -> None:
    cells = [
        'import hrm_submit\ntask = hrm_submit.load("arc-agi-1-evaluation")["00576224"]\ntask',
        f"answer = hrm_submit.Solver('none', {tiny(tmp_path)!r}, 'cpu').solve(task, segments=3)\nanswer",
        "hrm_submit.show(task, answer)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=300).execute()
    pages = [next(o for o in cell.outputs if o.output_type == "execute_result").data["text/html"] for cell in notebook.cells]
    assert [page.count("<svg") for page in pages] == [5, 7, 7], "two pairs and a test input; then two attempts at it"
    assert all("<h3>task 00576224</h3>" in page for page in pages)
    assert pages[1] == pages[2] and "attempt 1, " in pages[2]
