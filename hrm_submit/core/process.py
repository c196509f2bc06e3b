"""One run at a time in a folder, and signals that ask a run to stop: it ends what it is at, saves what it has, and exits."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hrm_submit.core.errors import BusyError

log = logging.getLogger(__name__)

_STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def locked(path: Path, what: Path) -> Iterator[None]:
    """Hold the file `path`, which is there for the block alone, with its folder where there was none. Raises BusyError, which names the
    process, where another run of `what` holds it.

    The system frees the lock of a process that ends, however it ends, and workers do not inherit it.
    """
    made = [folder for folder in path.parents if not os.path.exists(folder)]
    held = _lock(path, what)
    try:
        yield
    finally:
        if held is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(held)
        with suppress(OSError):  # those that hold something stay
            for folder in made:
                folder.rmdir()


def _lock(path: Path, what: Path) -> int | None:
    """Lock a file; return its descriptor, or None where there can be none: no lock is worth a run."""
    try:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except (ImportError, OSError):  # what cannot be written is said where it is needed
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 0:  # of a run that has just ended
            os.close(descriptor)
            return _lock(path, what)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    except BlockingIOError:
        process = os.read(descriptor, 20).decode(errors="replace")
        os.close(descriptor)
        raise BusyError(f"{what}: another run works here, process {process}") from None
    except OSError as error:
        log.warning("%s: cannot be locked, so nothing keeps a second run away: %s", what, error.strerror or error)
    return descriptor


@contextmanager
def set_by_signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on the first Ctrl-C, SIGTERM or SIGHUP that is not ignored (as by `nohup`); a second Ctrl-C raises KeyboardInterrupt.

    Does nothing outside the main thread, which alone may handle signals.
    """

    def handle(number: int, frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    numbers = [getattr(signal, name) for name in _STOPPING if hasattr(signal, name)]
    main = threading.current_thread() is threading.main_thread()
    handled = [n for n in numbers if main and signal.getsignal(n) not in (signal.SIG_IGN, None)]
    before = {n: signal.signal(n, handle) for n in handled}
    try:
        yield
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
