"""Runs of a plan on a cluster: each a piece of work, test-time training a piece for some tasks; the same figures as on one machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrm_submit.run.cluster_worker import files_of, placed
from lab.ablation.parallel import Figures, execute, run_folder
from lab.ablation.runs import Run
from lab.ablation.tasks import Chosen
from lab.on_cluster import left_in, on_cluster, put_down, scratch

TASKS_OF_A_PIECE = 8
"""Of test-time training: enough that the start of a process is little of it."""


def run_on_cluster(
    runs: Sequence[Run], address: str, folder: Path, done: Callable[[Run, Figures], None], failed: Callable[[Run, str], None]
) -> None:
    """As `parallel.run_all`, on all machines of a Ray cluster. Raises ClusterError."""
    parts = [parts_of(run) for run in runs]
    pieces = [(number, part) for number, own in enumerate(parts) for part in own]
    weights = {run.checkpoint: files_of(run.checkpoint) for run in runs if run.checkpoint}
    waiting = {number: len(own) for number, own in enumerate(parts)}
    found: dict[int, dict[int, Figures]] = {number: {} for number in waiting}
    given = [(replace(part, checkpoint=None), weights.get(part.checkpoint) if part.checkpoint else None) for _, part in pieces]
    for piece, result, fault in on_cluster(address, execute_there, given):
        number = pieces[piece][0]
        run = runs[number]
        if number not in waiting:  # another part of it has failed
            continue
        if fault:
            del waiting[number]
            failed(run, fault)
            continue
        figures, files = result
        waiting[number] -= 1
        found[number][piece] = figures
        place = run_folder(folder, run)
        put_down(files, place / f"part-{len(found[number])}" if len(parts[number]) > 1 else place)
        if not waiting[number]:
            del waiting[number]
            done(run, joined(run, [found[number][k] for k in sorted(found[number])]))


def parts_of(run: Run) -> list[Run]:
    """A run in parts that do not need each other: some tasks of test-time training each."""
    tasks = list(run.material.measured.tasks)
    if run.kind != "ttt" or len(tasks) <= TASKS_OF_A_PIECE:
        return [run]
    chunks = [tasks[k : k + TASKS_OF_A_PIECE] for k in range(0, len(tasks), TASKS_OF_A_PIECE)]
    measured = run.material.measured
    return [
        replace(
            run,
            material=replace(
                run.material,
                measured=Chosen(measured.name, {i: measured.tasks[i] for i in ids}, {i: measured.solutions[i] for i in ids}),
            ),
        )
        for ids in chunks
    ]


def execute_there(run: Run, weights: dict[str, bytes] | None) -> tuple[Figures, dict[str, bytes]]:
    """Do a run, or a part of one, on a node; returns its figures and what it left in its folder."""
    with scratch() as place:
        figures = execute(replace(run, checkpoint=None if weights is None else placed(weights)), Path(place))
        return figures, left_in(Path(place))


def joined(run: Run, parts: Sequence[Figures]) -> Figures:
    """The figures of a run from those of its parts, whose tasks are in its order."""
    if len(parts) == 1:
        return parts[0]
    from lab.ablation.ttt_run import figures_of

    lines: list[dict[str, Any]] = [line for part in parts for line in part["lines"]]
    machines = sorted({part["machine"] for part in parts})
    return {**figures_of(lines, run.preset.ttt.batch_size, parts[0]["parameters"]), "machine": "; ".join(machines)}
