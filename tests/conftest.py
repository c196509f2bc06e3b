"""What all tests share."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from hrm_submit.config.schema import Preset
from tests.run.lab import tiny_preset

# A busy machine is no fault of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("many", settings.get_profile("patient"), max_examples=10_000)
settings.load_profile("patient")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job ignores Ctrl-C, and so would what the tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--schedules", type=int, default=100, metavar="N", help="random schedules of faults in tests/run/test_trials.py")
    parser.addoption("--trials", type=int, default=3, metavar="N", help="runs that tests/run/test_kills.py kills (slow)")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small tensors gain nothing from several threads, and on a busy machine lose much by waiting for them."""
    torch.set_num_threads(1)


@pytest.fixture
def preset(tmp_path: Path) -> Preset:
    """A preset that makes a small model."""
    return tiny_preset(tmp_path)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[Callable[[Sequence[str]], int], Sequence[str]], str]:
    """Call a command that must refuse its arguments; returns the one line that it says."""

    def run(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> str:
        capsys.readouterr()
        try:
            status = main(argv)
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        assert (status, said.out) == (2, ""), said.err
        (line,) = said.err.splitlines()
        return line

    return run
