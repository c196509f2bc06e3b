"""Ctrl-C, SIGTERM and SIGHUP as a wish to stop: a run ends what it is at, saves what it has, and exits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def set_by_signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on the first of these signals, but not on those that are ignored (`nohup`); a second Ctrl-C raises KeyboardInterrupt.

    Does nothing outside the main thread, which alone may handle signals.
    """

    def handle(number: int, frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    main = threading.current_thread() is threading.main_thread()
    handled = [n for n in numbers if main and signal.getsignal(n) not in (signal.SIG_IGN, None)]
    before = {n: signal.signal(n, handle) for n in handled}
    try:
        yield
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
