"""torch.compile where it works: a compiler that is missing or fails costs speed and a line of log, never a run."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hrm_submit.core.device import cpu_count, out_of_memory
from hrm_submit.model.hrm import HRM
from hrm_submit.model.layers import Block

log = logging.getLogger(__name__)


@contextmanager
def compiling_in_turn() -> Iterator[None]:
    """One process of this machine at a time: the first compiles, the others find its work in torch's cache folder. The compiler gets
    no more processes than there are cores."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(cpu_count()))
    with ExitStack() as held:
        with suppress(ImportError, OSError):  # without a lock each compiles for itself
            import fcntl

            lock = held.enter_context(Path(tempfile.gettempdir(), f"hrm-submit-compiling-{os.getuid()}").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def compile_blocks(model: HRM) -> None:
    """Compile the blocks of `model` in place, at their first use: one graph serves all layers, in a fraction of the whole model's time.

    Where that fails, or any later use does but for want of memory, the reason is logged and all blocks run uncompiled.
    """
    tqdm.set_lock(threading.RLock())  # the compiler makes a bar, whose default lock is a semaphore that a killed worker leaves
    for block in _blocks(model):
        block.compile()
        # torch compiles in place through this attribute, and leaves it out of copies of the module.
        compiled = block._compiled_call_impl
        block._compiled_call_impl = _guarded(model, block, compiled)


def is_compiled(model: HRM) -> bool:
    """Whether the blocks of `model` run compiled."""
    return any(block._compiled_call_impl is not None for block in _blocks(model))


def give_up_compiling(model: HRM, error: BaseException) -> None:
    """Go on uncompiled, and log `error` as the reason."""
    for block in _blocks(model):
        block._compiled_call_impl = None
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    log.warning("torch.compile failed, continuing without it: %s: %s", type(error).__name__, reason)


def _guarded(model: HRM, block: Block, compiled: Any) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        try:
            return compiled(*args, **options)
        except Exception as error:
            if out_of_memory(error):
                raise
            failure = error
        # An error of the arguments themselves comes again from the plain call, and then it is the caller's.
        result = block._call_impl(*args, **options)
        if is_compiled(model):
            give_up_compiling(model, failure)
        return result

    return call


def _blocks(model: HRM) -> list[Block]:
    return [block for level in model.levels for block in level.blocks]  # type: ignore[misc]
