"""`solve` from end to end: check everything, write a valid file, run the supervisor, sum up.

All that wrong input can cause is raised before the first task starts; after that a run always ends with an answer.
"""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hrm_submit.arc.canonical import tasks_with_pairs_of
from hrm_submit.arc.challenges import read_challenges
from hrm_submit.arc.reader import digest
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.profiles import known_cards, profile_of
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import Card, cards, list_devices, machine
from hrm_submit.core.errors import ClusterError, SolveError, clipped
from hrm_submit.core.files import sha256_of
from hrm_submit.core.options import described
from hrm_submit.predict.raw import RAW
from hrm_submit.record.events import Plan, RunEnd, RunStart
from hrm_submit.record.folder import RunWriter, read_run, training_warning
from hrm_submit.run.answers import AnswerBook
from hrm_submit.run.options import RANDOM_WEIGHTS, SolveOptions
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.run.protocol import WorkerSpec
from hrm_submit.version import __version__

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SolveSummary:
    """How a run went: tasks of the file, of them answered by the model, finished earlier, that it was to
    solve, and the faults of the broken ones; seconds."""

    tasks: int
    answered: int
    resumed: int
    solvable: int
    faults: tuple[str, ...]
    seconds: float

    def lines(self) -> list[str]:
        """For a person."""
        by_fallback = self.tasks - self.answered
        text = f"{self.answered} of {self.tasks} tasks answered by the model, {by_fallback} by fallback, in {self.seconds:.1f} s"
        if self.resumed:
            text += f" ({self.resumed} had their final answer from before)"
        return [text, *(f"answered by fallback: {fault}" for fault in self.faults)]


def solve(options: SolveOptions, clock: Clock) -> SolveSummary:
    """Solve the tasks of a challenges file; `clock` has the run's budget, if it has one. Raises UserError before the first task."""
    tasks, broken = read_challenges(options.challenges)
    if options.output.exists() and options.challenges.exists() and options.output.samefile(options.challenges):
        raise SolveError(f"{options.output}: cannot be both the challenges and the submission file")
    if not tasks:
        if not options.output.exists():  # a valid file, all the same; one that is there may hold better answers
            AnswerBook(tasks, broken, options.output).create()
        raise SolveError(f"{options.challenges}: has no task that can be used: {next(iter(broken.values())).fault}")
    order = [*tasks, *broken]
    wanted = _wanted(options, tasks, broken)
    content = digest(options.challenges)
    book = AnswerBook(tasks, broken, options.output)
    finished: set[str] = set()
    earlier: Mapping[str, Any] = {}
    if (options.run_dir / "run.json").is_file():
        record = read_run(options.run_dir)
        if record.run.get("challenges_sha256", content) != content:
            raise SolveError(f"{options.run_dir}: run folder of another challenges file ({record.run.get('challenges')})")
        finished, earlier = book.restore(record), record.run
        if finished:
            log.warning(
                "%s: resuming an earlier run; %d tasks keep their final answers (another --run-dir solves them again)",
                options.run_dir,
                len(finished),
            )
    book.create()  # valid from the first second: before torch is imported, weights read or a GPU touched

    from hrm_submit.model.checkpoint_header import read_header
    from hrm_submit.model.packaged import packaged_checkpoint, resolve_preset

    cluster = _connect(options) if options.cluster else None
    devices = [] if cluster else list_devices(options.devices)
    found = [Card(n.card, 0.0, 0.0) for n in cluster.nodes() if n.card in known_cards()] if cluster else cards(devices)
    if not options.presets and (profile := profile_of(found)):
        log.info("no --preset: the profile %s suits the GPUs found", profile)
        options = replace(options, presets=profile)
    if options.checkpoint is None:
        checkpoint = packaged_checkpoint(options.presets)
    else:
        checkpoint = None if options.checkpoint == RANDOM_WEIGHTS else Path(options.checkpoint)
    preset = resolve_preset(options.presets, checkpoint)
    hashes = read_header(checkpoint)[1].hashes if checkpoint else ()
    known = tasks_with_pairs_of(hashes, {i: tasks[i] for i in wanted if i in tasks})
    run = RunWriter(options.run_dir, clock.elapsed)
    for line in broken.values():
        log.warning("%s", line.fault)
    todo = tuple(tasks[i] for i in wanted if i not in finished)

    from hrm_submit.run.placement import for_budget, worker_specs
    from hrm_submit.run.supervisor import Supervisor, Work

    preset = for_budget(preset, options.budget)
    pool = None
    if cluster:
        specs, pool = _workers_of(cluster, preset, options, checkpoint, todo)
    else:
        specs, preset = worker_specs(devices, preset, checkpoint, options.seed, todo, options.segments is not None)
    if preset.vote.save_raw:
        specs = [replace(spec, raw=options.run_dir / RAW) for spec in specs]
    description = {**_describe(options, preset, checkpoint, content), "trained_on": known}
    if finished and (others := _other_settings(earlier, description)):
        log.warning("%s: these answers were made with other settings than this run's: %s", options.run_dir, "; ".join(others))
    if told := training_warning(description):
        log.warning("%s", told)
    run.describe({**description, "devices": [s.place for s in specs]})
    run.event(RunStart(options.budget, len(tasks), sorted(broken), len(finished)))
    run.event(Plan([t.id for t in todo], len(specs), [s.place for s in specs]))
    work = Work(todo, options.budget, options.segments)
    bars = ProgressBars(len(wanted), len(wanted) - len(todo), preset.ttt.fit)
    try:
        Supervisor(work, specs, preset, book, run, clock, bars, pool).run()
    finally:
        bars.close()
        fault = book.save()
        run.event(RunEnd(len(book.answered), round(clock.elapsed(), 3), fault))
        if cluster:
            cluster.close()
    if fault:
        log.error("the last answers could not be written: %s", fault)
    faults = tuple(b.fault for b in broken.values())
    return SolveSummary(len(order), len(book.answered), len(finished), len(wanted), faults, clock.elapsed())


def _connect(options: SolveOptions) -> Any:
    """The cluster. Raises ClusterError."""
    from hrm_submit.run.cluster import Cluster  # Ray, which only this needs

    return Cluster(options.cluster, options.cores_per_worker)


def _workers_of(
    cluster: Any, preset: Preset, options: SolveOptions, checkpoint: Path | None, todo: Sequence[Task]
) -> tuple[list[WorkerSpec], Any]:
    """What works in a cluster, and the pool that makes it. Raises ClusterError where no machine has room for a worker."""
    from hrm_submit.run.cluster import ClusterPool, specs_on

    preset = replace(preset, device=replace(preset.device, threads=options.cores_per_worker))
    tokens = max((canvas_side(t) for t in todo), default=1) ** 2
    like = WorkerSpec(0, "cpu", preset, checkpoint, options.seed, tokens)
    nodes = cluster.nodes()
    specs = specs_on(nodes, like, options.cores_per_worker, preset, max(1, len(todo)))
    if not specs:
        raise ClusterError(f"--cluster {options.cluster}: none of its {len(nodes)} nodes has {options.cores_per_worker} CPU cores or a GPU")
    return specs, ClusterPool(cluster, preset)


def _wanted(options: SolveOptions, tasks: Any, broken: Any) -> list[str]:
    if options.tasks is None:
        return list(tasks)
    unknown = [t for t in options.tasks if t not in tasks and t not in broken]
    if unknown:
        raise SolveError(f"{options.challenges}: has no task {', '.join(unknown)}")
    return [t for t in tasks if t in set(options.tasks)]


def _describe(options: SolveOptions, preset: Preset, checkpoint: Path | None, content: str) -> dict[str, Any]:
    return {
        "command": "solve",
        **described(options),
        "challenges_sha256": content,
        "checkpoint": str(checkpoint) if checkpoint else None,
        "checkpoint_sha256": sha256_of(checkpoint) if checkpoint else None,
        "config": preset.to_dict(),
        "versions": _versions(),
        "machine": machine(),
    }


def _other_settings(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What an earlier run of the folder answered with and this one does not, by their `run.json`; what one does not say is alike."""

    told = {"checkpoint_sha256": "another checkpoint", "seed": "--seed {}"}
    others = [text.format(earlier[key]) for key, text in told.items() if key in earlier and earlier[key] != now[key]]
    config = earlier.get("config")
    for table in ("ttt", "vote"):
        theirs, ours = config.get(table) if isinstance(config, Mapping) else None, now["config"][table]
        if isinstance(theirs, Mapping):
            others += [f"[{table}] {key} = {clipped(repr(theirs[key]), 40)}" for key in ours if key in theirs and theirs[key] != ours[key]]
    return others


def _versions() -> dict[str, str]:
    import numba
    import numpy
    import torch

    return {
        "hrm_submit": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "numba": numba.__version__,
        "platform": f"{sys.platform} {platform.machine()}",
    }
