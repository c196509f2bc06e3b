"""Where progress is shown, found out from what stands for a terminal, a kernel and its widgets."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
import tqdm

from hrm_submit.core import terminal
from tests.terminal import screen as seen


def ipython(**shell: object) -> SimpleNamespace:
    return SimpleNamespace(get_ipython=lambda: SimpleNamespace(**shell))


def test_a_file_keeps_plain_lines_and_a_terminal_has_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert terminal.place() == "plain" and terminal.bar("plain", total=3).disable
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert terminal.place() == "terminal"
    monkeypatch.setitem(sys.modules, "IPython", ipython(config={}))  # type: ignore[arg-type]
    assert terminal.place() == "terminal", "IPython without a kernel"
    with terminal.bar("terminal", total=3) as bar:
        assert not bar.disable


def test_a_notebook_has_widgets_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(IProgress=object())
    monkeypatch.setitem(sys.modules, "IPython", ipython(kernel=object()))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "tqdm.notebook", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(tqdm, "notebook", fake, raising=False)
    assert terminal.place() == "widgets"


def test_a_real_kernel_without_widgets_shows_one_bar_and_no_warning() -> None:
    code = """
import sys
sys.modules["ipywidgets"] = None
from ipykernel.zmqshell import ZMQInteractiveShell
shell = ZMQInteractiveShell.instance()
shell.kernel = object()
from hrm_submit.core.terminal import bar, place
assert place() == "one line", place()
with bar(place(), total=2, unit="task") as shown:
    shown.update()
"""
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1/2" in done.stderr and "Warning" not in done.stderr and "ipywidgets" not in done.stderr


def test_what_is_logged_stays_above_the_bars(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "20")
    handler = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.root, "handlers", [handler])
    bar = terminal.bar("terminal", total=2, desc="both", bar_format="{desc} {n_fmt}")
    with terminal.logs_above_bars("terminal"):
        logging.getLogger("x").warning("a task failed")
        bar.update()
        bar.refresh()
        lines = seen(capsys.readouterr().err)
    bar.close()
    assert [line for line in lines if line] == ["a task failed", "both 1"]
    assert logging.root.handlers == [handler], "afterwards the log is as it was"
