"""Runs in parallel, each in a process of its own with one thread: a run that fails, however it does, costs the others nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from hrm_submit.core.device import machine
from lab.ablation.runs import Run

Figures = dict[str, Any]


def run_all(
    runs: Sequence[Run],
    parallel: int,
    folder: Path,
    done: Callable[[Run, Figures], None],
    failed: Callable[[Run, str], None],
) -> None:
    """Do all `runs`, `parallel` at a time, in the order given; what each leaves besides its figures lies in a folder below `folder`.

    `done` or `failed` (with one line) is called for each when it ends. Whatever ends this ends every process that it started.
    """
    context = multiprocessing.get_context("spawn")
    waiting = deque(runs)
    active: dict[Connection, tuple[Any, Run]] = {}
    try:
        while waiting or active:
            while waiting and len(active) < parallel:
                run = waiting.popleft()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_serve, args=(theirs, run, run_folder(folder, run)), daemon=True)
                process.start()
                theirs.close()
                active[ours] = process, run
            for ready in wait(list(active)):
                assert isinstance(ready, Connection)
                process, run = active[ready]
                try:
                    figures, fault = ready.recv()
                except EOFError:
                    figures, fault = None, ""
                process.join()
                del active[ready]
                ready.close()
                if figures is None:
                    failed(run, fault or f"its process ended with status {process.exitcode}")
                else:
                    done(run, figures)
    finally:
        for process, _ in active.values():
            process.kill()
        for process, _ in active.values():
            process.join()


def run_folder(folder: Path, run: Run) -> Path:
    """Where a run leaves its records."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", run.variant).strip("-") or "variant"
    return folder / f"{name}-{run.seed}-{run.key}"


def _serve(connection: Connection, run: Run, folder: Path) -> None:
    """What a process does: one run, then its figures, or the fault in one line, to who started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the one that started this ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        connection.send((execute(run, folder), ""))
    except Exception as error:
        from hrm_submit.core.errors import one_line

        connection.send((None, one_line(error)))


def execute(run: Run, folder: Path) -> Figures:
    """Do `run` in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run.describe(), indent=1), encoding="utf-8")
    # Only processes that train need torch: the one that waits for them and makes the table does without.
    import torch

    from lab.ablation.train_run import train_run
    from lab.ablation.ttt_run import ttt_run

    torch.set_num_threads(1)
    figures = {**(train_run if run.kind == "train" else ttt_run)(run, folder), "machine": machine()}
    (folder / "result.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return figures


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
