"""Compiled functions that work without their disk cache.

numba keeps compiled code beside the source, else in the user's cache folder; where neither can be written (a package
installed read-only, a full disk, a damaged entry) it raises. Here such a function is compiled again instead. A user without a
home folder gets a cache below the temporary folder: numba would make a folder named `~`.
Three rules for users of `kernel`: numba judges a cached function stale by its own source file alone, so the functions that
it calls must live in that file; a kernel must give the same result when it is run twice, as the fallback may do; and where
`fast` is given, what it calls must be inlined by force. The process that compiles two kernels runs one copy of a function
that both call, one that loads them another, and `fast` lets the copies round differently: a run would not resume bit-identically.
"""

import functools
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger(__name__)


def _cache_home() -> str:
    """Return this user's own folder below the temporary one, else a path where no folder can be."""
    try:
        own = Path(tempfile.gettempdir(), f"hrm-submit-{os.getuid()}")
        own.mkdir(mode=0o700, exist_ok=True)
        # Entries are unpickled: not those of a folder that another user has put there.
        return str(own) if own.stat().st_uid == os.getuid() else os.devnull
    except OSError:
        return os.devnull


if os.path.expanduser("~") == "~" and not os.environ.get("XDG_CACHE_HOME"):
    os.environ["XDG_CACHE_HOME"] = _cache_home()


def kernel(function: F, *, fast: bool = False) -> F:
    """Compile `function` at its first call, without the GIL, cached on disk where possible.

    `fast` lets sums be taken in any order and does not check for division by zero, as vector instructions need.
    """
    compiled = functools.partial(njit, nogil=True, fastmath=fast, error_model="numpy" if fast else "python")
    plain = compiled()(function)
    try:
        chosen = compiled(cache=True)(function)
    except RuntimeError as error:  # numba found no folder that it may write to
        log.info("compiled code of %s is not cached: %s", function.__name__, error)
        return cast(F, plain)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        nonlocal chosen
        if chosen is plain:
            return plain(*args)
        try:
            return chosen(*args)
        except Exception as error:  # a damaged entry can raise anything; an error of the function's own comes again below
            log.info("compiled code of %s is not cached: %s", function.__name__, error)
            chosen = plain
            return plain(*args)

    return cast(F, call)
