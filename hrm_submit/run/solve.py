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
from hrm_submit.arc.entries import digest
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.profiles import known_cards, profile_of
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import Card, cards, list_devices, machine
from hrm_submit.core.errors import ClusterError, SolveError, clipped
from hrm_submit.core.files import sha256_of
from hrm_submit.predict.raw import RAW
from hrm_submit.record.events import Plan, RunEnd, RunStart
from hrm_submit.record.folder import RunWriter, read_run, training_warning
from hrm_submit.run.answers import AnswerBook
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.run.protocol import WorkerSpec
from hrm_submit.version import __version__

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SolveRequest:
    """What `solve` is asked: see the options of the command. Exactly one of `budget` (seconds) and `segments` is given."""

    challenges: Path
    output: Path
    run_dir: Path
    checkpoint: Path | None
    presets: str
    budget: float | None
    segments: int | None
    devices: str
    tasks: tuple[str, ...] | None
    seed: int
    cluster: str = ""
    """A Ray cluster whose machines work, instead of this one's devices: see `cluster.Cluster`."""
    cores_per_worker: int = 1
    from_the_box: bool = False
    """Start from the package's own checkpoint, where it has one that suits the presets."""


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


def solve(request: SolveRequest, clock: Clock) -> SolveSummary:
    """Solve the tasks of a challenges file; `clock` has the run's budget, if it has one. Raises UserError before the first task."""
    tasks, broken = read_challenges(request.challenges)
    if request.output.exists() and request.challenges.exists() and request.output.samefile(request.challenges):
        raise SolveError(f"{request.output}: cannot be both the challenges and the submission file")
    if not tasks:
        if not request.output.exists():  # a valid file, all the same; one that is there may hold better answers
            AnswerBook([*broken], tasks, broken, request.output).create()
        raise SolveError(f"{request.challenges}: has no task that can be used: {next(iter(broken.values())).fault}")
    order = [*tasks, *broken]
    wanted = _wanted(request, tasks, broken)
    content = digest(request.challenges)
    book = AnswerBook(order, tasks, broken, request.output)
    finished: set[str] = set()
    earlier: Mapping[str, Any] = {}
    if (request.run_dir / "run.json").is_file():
        record = read_run(request.run_dir)
        if record.run.get("challenges_sha256", content) != content:
            raise SolveError(f"{request.run_dir}: run folder of another challenges file ({record.run.get('challenges')})")
        finished, earlier = book.restore(record), record.run
        if finished:
            log.warning(
                "%s: resuming an earlier run; %d tasks keep their final answers (another --run-dir solves them again)",
                request.run_dir,
                len(finished),
            )
    book.create()  # valid from the first second: before torch is imported, weights read or a GPU touched

    from hrm_submit.model.packaged import packaged_checkpoint, resolve_preset
    from hrm_submit.model.weights import read_meta

    cluster = _connect(request) if request.cluster else None
    devices = [] if cluster else list_devices(request.devices)
    found = [Card(n.card, 0.0, 0.0) for n in cluster.nodes() if n.card in known_cards()] if cluster else cards(devices)
    if not request.presets and (profile := profile_of(found)):
        log.info("no --preset: the profile %s suits the GPUs found", profile)
        request = replace(request, presets=profile)
    if request.from_the_box:
        request = replace(request, checkpoint=packaged_checkpoint(request.presets))
    preset = resolve_preset(request.presets, request.checkpoint)
    hashes = read_meta(request.checkpoint).hashes if request.checkpoint else ()
    known = tasks_with_pairs_of(hashes, {i: tasks[i] for i in wanted if i in tasks})
    run = RunWriter(request.run_dir, clock.elapsed)
    for line in broken.values():
        log.warning("%s", line.fault)
    todo = tuple(tasks[i] for i in wanted if i not in finished)

    from hrm_submit.run.placement import for_budget, worker_specs
    from hrm_submit.run.supervisor import Supervisor, Work

    preset = for_budget(preset, request.budget)
    pool = None
    if cluster:
        specs, pool = _workers_of(cluster, preset, request, todo)
    else:
        specs, preset = worker_specs(devices, preset, request.checkpoint, request.seed, todo, request.segments is not None)
    if preset.vote.save_raw:
        specs = [replace(spec, raw=request.run_dir / RAW) for spec in specs]
    described = {**_describe(request, preset, content), "trained_on": known}
    if finished and (others := _other_settings(earlier, described)):
        log.warning("%s: these answers were made with other settings than this run's: %s", request.run_dir, "; ".join(others))
    if told := training_warning(described):
        log.warning("%s", told)
    run.describe({**described, "devices": [s.place for s in specs]})
    run.event(RunStart(request.budget, len(tasks), sorted(broken), len(finished)))
    run.event(Plan([t.id for t in todo], len(specs), [s.place for s in specs]))
    work = Work(todo, request.budget, request.segments)
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


def _connect(request: SolveRequest) -> Any:
    """The cluster. Raises ClusterError."""
    from hrm_submit.run.cluster import Cluster  # Ray, which only this needs

    return Cluster(request.cluster, request.cores_per_worker)


def _workers_of(cluster: Any, preset: Preset, request: SolveRequest, todo: Sequence[Task]) -> tuple[list[WorkerSpec], Any]:
    """What works in a cluster, and the pool that makes it. Raises ClusterError where no machine has room for a worker."""
    from hrm_submit.run.cluster import ClusterPool, specs_on

    preset = replace(preset, device=replace(preset.device, threads=request.cores_per_worker))
    tokens = max((canvas_side(t) for t in todo), default=1) ** 2
    like = WorkerSpec(0, "cpu", preset, request.checkpoint, request.seed, tokens)
    nodes = cluster.nodes()
    specs = specs_on(nodes, like, request.cores_per_worker, preset, max(1, len(todo)))
    if not specs:
        raise ClusterError(f"--cluster {request.cluster}: none of its {len(nodes)} nodes has {request.cores_per_worker} CPU cores or a GPU")
    return specs, ClusterPool(cluster, preset)


def _wanted(request: SolveRequest, tasks: Any, broken: Any) -> list[str]:
    if request.tasks is None:
        return list(tasks)
    unknown = [t for t in request.tasks if t not in tasks and t not in broken]
    if unknown:
        raise SolveError(f"{request.challenges}: has no task {', '.join(unknown)}")
    return [t for t in tasks if t in set(request.tasks)]


def _describe(request: SolveRequest, preset: Preset, content: str) -> dict[str, Any]:
    return {
        "command": "solve",
        "challenges": str(request.challenges),
        "challenges_sha256": content,
        "output": str(request.output),
        "checkpoint": str(request.checkpoint) if request.checkpoint else None,
        "checkpoint_sha256": sha256_of(request.checkpoint) if request.checkpoint else None,
        "presets": request.presets,
        "config": preset.to_dict(),
        "seed": request.seed,
        "budget": request.budget,
        "segments": request.segments,
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
