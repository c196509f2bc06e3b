"""Compiled functions that work without their disk cache.

numba keeps compiled code beside the source, else in the user's cache folder; where neither can be written (a package
installed read-only, no home folder, a full disk, a damaged entry) it raises. Here such a function is compiled again instead.
Three rules for users of `kernel`: numba judges a cached function stale by its own source file alone, so the functions that
it calls must live in that file; a kernel must give the same result when it is run twice, as the fallback may do; and where
`fast` is given, what it calls must be inlined by force. The process that compiles two kernels runs one copy of a function
that both call, one that loads them another, and `fast` lets the copies round differently: a run would not resume bit-identically.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger(__name__)


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
