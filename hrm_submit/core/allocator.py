"""The C library's allocator, set for training on a CPU.

Notable: by default glibc returns large blocks to the system at each free, so that every training segment pays for the page faults of
all its activations. Nothing here changes a result.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of mallopt(3), by their numbers in malloc.h."""
_NEVER = 2**31 - 1

LARGE_PAGES = "glibc.malloc.hugetlb=1"
"""Tunable of glibc (from 2.35) that asks for transparent huge pages; read when a process starts."""


def keep_freed_memory() -> bool:
    """Let this process reuse memory that it freed. Returns False where the C library has no such setting."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))


def large_pages_for_children() -> None:
    """Ask for large pages in processes started from now on, unless the environment already tunes the allocator."""
    os.environ.setdefault("GLIBC_TUNABLES", LARGE_PAGES)
