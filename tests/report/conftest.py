"""What the tests of the report share: a real run, and a browser where there is one."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.report.lab import Run, real_run, run_in
from tests.shared import made_once

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="session")
def solved_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A real run of 18 tasks on the CPU."""
    return run_in(made_once(tmp_path_factory, "solved", real_run))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, which starts with a profile of its own; skips where none is installed.

    Not for the session: while it is open its event loop is the thread's, and other tests need theirs.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright, which is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no Chromium is installed (looked for {', '.join(BROWSERS)})")
    # Chromium refuses its sandbox to root, as whom containers run it.
    flags = [*QUIET, "--no-sandbox"] if os.geteuid() == 0 else QUIET
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=flags)
        yield started
        started.close()
