"""Engines: blocks plain, by torch.compile, or by that with CUDA graphs. One that fails costs speed and a line of log, never a run."""

import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hrm_submit.config.schema import Engine
from hrm_submit.core.device import cpu_count, out_of_memory
from hrm_submit.core.errors import one_line
from hrm_submit.model.hrm import HRM
from hrm_submit.model.layers import Block

log = logging.getLogger(__name__)

BELOW: Mapping[Engine, Engine] = {"reduce-overhead": "compile", "compile": "plain", "plain": "plain"}
"""What follows an engine that failed."""
RECOMPILE_LIMIT = 64
"""Most variants of a block: three models, training and inference, several batch sizes and canvases. torch's own limit is 8."""


@contextmanager
def compiling_in_turn(*, wait: bool = True) -> Iterator[bool]:
    """One process of this machine at a time: the first compiles, the others find its work in torch's cache folder. The compiler gets
    no more processes than there are cores. Yields True, or False without `wait` where another process compiles."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(cpu_count()))
    ours = True
    with ExitStack() as held:
        with suppress(ImportError, OSError):  # without a lock each compiles for itself
            import fcntl

            lock = held.enter_context(Path(tempfile.gettempdir(), f"hrm-submit-compiling-{os.getuid()}").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                ours = False
        yield ours


def compile_blocks(model: HRM, engine: Engine = "compile") -> None:
    """Compile the blocks of `model` in place, at their first use: one graph serves all layers, in a fraction of the whole model's time.

    Where that fails, or any later use does but for want of memory, the reason is logged and all blocks go one engine down. Nothing
    happens where `engine` is plain.
    """
    if engine == "plain":
        return
    from torch._dynamo import config  # takes seconds, which an uncompiled run does without

    # All blocks of all models share one code object; beyond the limit torch would run them uncompiled and say nothing.
    config.recompile_limit = RECOMPILE_LIMIT
    tqdm.set_lock(threading.RLock())  # the compiler makes a bar, whose default lock is a semaphore that a killed worker leaves
    for block in _blocks(model):
        block.compile(**({} if engine == "compile" else {"mode": engine}))
        # torch compiles in place through this attribute, and leaves it out of copies of the module.
        block._compiled_call_impl = _Guarded(model, block, engine, block._compiled_call_impl)


def engine_of(model: HRM) -> Engine:
    """Return how the blocks of `model` run."""
    guarded = _blocks(model)[0]._compiled_call_impl
    return guarded.engine if isinstance(guarded, _Guarded) else "plain"


def step_down(model: HRM, error: BaseException) -> None:
    """Go on with the next simpler engine, and log `error` as the reason."""
    failed = engine_of(model)
    for block in _blocks(model):
        block._compiled_call_impl = None
    compile_blocks(model, BELOW[failed])
    what = "torch.compile" if failed == "compile" else "CUDA graphs"
    log.warning("%s failed, continuing without: %s", what, one_line(error))


@dataclass(frozen=True, eq=False)
class _Guarded:
    """The call of a compiled block."""

    model: HRM
    block: Block
    engine: Engine
    compiled: Any

    def __call__(self, *args: Any, **options: Any) -> Any:
        try:
            result = self.compiled(*args, **options)
            # What a graph puts out lies where its next replay writes.
            return result.clone() if self.engine == "reduce-overhead" else result
        except Exception as error:
            if out_of_memory(error):
                raise
            failure = error
        # An error of the arguments themselves comes again from the plain call, and then it is the caller's.
        result = self.block._call_impl(*args, **options)
        if engine_of(self.model) == self.engine:
            step_down(self.model, failure)
        return result


def _blocks(model: HRM) -> list[Block]:
    return [block for level in model.levels for block in level.blocks]  # type: ignore[misc]
