"""`solve` from end to end: read and check, write a valid file, choose what works, run the supervisor, sum up.

All that wrong input can cause is raised before the first task starts; after that a run always ends with an answer.
"""

import json
import logging
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hrm_submit.arc.canonical import tasks_with_pairs_of
from hrm_submit.arc.choice import chosen
from hrm_submit.arc.reader import digest, read_challenges
from hrm_submit.arc.submission import file_faults
from hrm_submit.arc.task import Task
from hrm_submit.config.runtime import card_presets, preset_of_cards
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import Card, cards, list_devices, machine
from hrm_submit.core.errors import SolveError, clipped
from hrm_submit.core.files import sha256_of
from hrm_submit.core.options import described
from hrm_submit.model.checkpoint_header import read_header
from hrm_submit.model.packaged import members, packaged_checkpoint
from hrm_submit.predict.raw import RAW
from hrm_submit.record.events import Plan, RunEnd, RunStart
from hrm_submit.record.folder import RunRecord, RunWriter, open_tasks, read_run, set_aside_unreadable, training_warning
from hrm_submit.run.answers import AnswerStore
from hrm_submit.run.options import RANDOM_WEIGHTS, SolveOptions
from hrm_submit.run.placement import for_budget, worker_specs
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.run.protocol import WorkerSpec
from hrm_submit.run.start import Watchdog
from hrm_submit.run.supervisor import Supervisor
from hrm_submit.run.worker_pool import Pool, WorkerPool
from hrm_submit.version import __version__

log = logging.getLogger(__name__)

SEED, SEGMENTS = "--seed", "--segments-per-task"
"""Settings that may differ between a run and the one that resumes it: a segment is the same work."""


@dataclass(frozen=True)
class SolveSummary:
    """How a run went: tasks of the file; how many the model answered, had a final answer before, were to be solved; faults of the
    broken ones; seconds; why the last answers are not in the file, if they are not; how many tasks have no final answer though time was
    left."""

    tasks: int
    answered: int
    resumed: int
    solvable: int
    faults: tuple[str, ...]
    seconds: float
    unsaved: str | None
    abandoned: int = 0

    def lines(self) -> list[str]:
        """Return lines for a person."""
        resumed = f" ({self.resumed} had their final answer from before)" if self.resumed else ""
        by_model = f"{self.answered} of {self.tasks} tasks answered by the model"
        text = f"{by_model}, {self.tasks - self.answered} by fallback, in {self.seconds:.1f} s{resumed}"
        left = [f"{self.abandoned} tasks have no final answer though time was left; the same command resumes"] if self.abandoned else []
        return [text, *left, *(f"answered by fallback: {fault}" for fault in self.faults)]


def solve(options: SolveOptions, clock: Clock, watchdog: Watchdog | None = None) -> SolveSummary:
    """Solve the tasks of a challenges file until the clock's budget, if it has one, is spent; `watchdog` is told when the submission is
    complete. Raises UserError before the first task."""
    tasks, broken = read_challenges(options.challenges)
    answers = AnswerStore(tasks, broken, options.output)
    if not tasks:
        if not options.output.exists():  # a valid file, all the same; one that is there may hold better answers
            answers.create()
        raise SolveError(f"{options.challenges}: has no task that can be used: {next(iter(broken.values())).fault}")
    wanted = chosen(options, tasks, options.challenges, open_tasks, broken) if options.chooses else list(tasks)
    finished, record = _restore(options, answers)
    # Valid from here on: before torch is imported, weights are read or a GPU is touched. A whole file is kept until nothing can be refused.
    whole = not file_faults(options.output, {task: len(found.test) for part in (tasks, broken) for task, found in part.items()})
    if not whole:
        answers.create()
    if watchdog:
        watchdog.complete = True
    todo = [tasks[i] for i in wanted if i not in finished]
    setup = _set_up(options, todo)
    if whole:
        answers.create()
    for task in broken.values():
        log.warning("%s", task.fault)

    def summary(unsaved: str | None, abandoned: int = 0) -> SolveSummary:
        faults = tuple(task.fault for task in broken.values())
        counts = len(tasks) + len(broken), len(answers.answered), len(finished), len(wanted)
        return SolveSummary(*counts, faults, clock.elapsed(), unsaved, abandoned)

    description = _description(options, setup, [tasks[i] for i in wanted])
    earlier = record.run if record else {}
    others = _other_settings(earlier, description)
    if finished:
        does = "resuming an earlier run" if todo else "nothing is left to solve"
        text = "%s: %s; final answers kept: %d (another --output or --run-dir solves these tasks again)"
        log.warning(text, options.run_dir, does, len(finished))
        if others:
            told = "; ".join(f"{name} {clipped(value, 40)}" for name, value in others.items())
            log.warning("%s: these answers were made with other settings than this run's: %s", options.run_dir, told)
    if earlier and finished and not todo:  # what made the answers stays recorded
        setup.pool.close()
        return summary(None)
    run = RunWriter(options.run_dir, clock.elapsed)
    run.describe(description)
    run.event(RunStart(budget=options.budget, tasks=len(tasks), broken=sorted(broken), resumed=len(finished)))
    run.event(Plan(todo=[t.id for t in todo], workers=len(setup.specs), devices=description["devices"]))
    bars = ProgressBars(len(wanted), len(wanted) - len(todo), setup.preset.ttt.fit)
    resumed = record if others.keys() <= {SEED, SEGMENTS} else None  # its segments count the same work
    supervisor = Supervisor(todo, options.segments, setup.specs, answers, run, clock, bars, setup.pool, resumed)
    try:
        supervisor.run()
    finally:
        bars.close()
        fault = answers.save(last=True)
        run.event(RunEnd(answered=len(answers.answered), seconds=round(clock.elapsed(), 3), unsaved=fault))
        setup.pool.close()
    if fault:
        log.error("the last answers could not be written: %s", fault)
    return summary(fault, supervisor.abandoned)


def _restore(options: SolveOptions, answers: AnswerStore) -> tuple[set[str], RunRecord | None]:
    """Take over the answers of an earlier run of the folder; return the tasks with final ones, and its record. Raises SolveError where
    it solved another file."""
    set_aside_unreadable(options.run_dir)
    if not any((options.run_dir / name).is_file() for name in ("run.json", "predictions.jsonl")):
        return set(), None
    record, content = read_run(options.run_dir), digest(options.challenges)
    if record.run.get("challenges_sha256", content) != content:
        raise SolveError(f"{options.run_dir}: run folder of another challenges file ({record.run.get('challenges')})")
    return answers.restore(record), record


@dataclass(frozen=True)
class _SetUp:
    """What a run works with; `presets` are the names that the preset of the first model is layered from."""

    presets: str
    specs: list[WorkerSpec]
    pool: Pool[Any]
    gpus: list[str]
    """The names of the cards found."""

    @property
    def preset(self) -> Preset:
        """Return the preset of the first model as its workers have it."""
        return self.specs[0].preset


def _set_up(options: SolveOptions, todo: Sequence[Task]) -> _SetUp:
    """Choose devices, weights, preset and workers. Raises UserError."""
    cluster, devices = None, list[str]()
    if options.cluster:
        from hrm_submit.run.cluster import ClusterPool  # Ray, which only this needs

        cluster = ClusterPool(options.cluster, options.cores_per_worker)
        known = {device.card for device in card_presets().values()}
        found = [Card(n.card, 0.0, 0.0) for n in cluster.nodes() if n.card in known]
    else:
        devices = list_devices(options.devices)
        found = cards(devices)
    presets = options.presets
    if not presets and (suited := preset_of_cards(found)):
        log.info("no --preset: the preset %s suits the GPUs found", suited)
        presets = suited
    if options.checkpoint is None:
        checkpoint = packaged_checkpoint(presets)
    else:
        checkpoint = None if options.checkpoint == RANDOM_WEIGHTS else Path(options.checkpoint)
    models = for_budget(members(presets, checkpoint), options.budget)
    if len(models) > 1:
        log.info("members: %s", ", ".join(m.name for m in models))
    if cluster:
        specs = cluster.specs(models, options.seed, todo)
    else:
        specs = worker_specs(devices, models, options.seed, todo, options.segments is not None)
    if models[0].preset.vote.save_raw:
        specs = [replace(spec, raw=options.run_dir / RAW) for spec in specs]
    return _SetUp(presets, specs, cluster or WorkerPool(), [card.name for card in found])


def _description(options: SolveOptions, setup: _SetUp, wanted: Sequence[Task]) -> dict[str, Any]:
    """Return the content of `run.json` as it is read again; warn where the weights were trained on some of the tasks."""
    first, *others = [
        {
            "name": m.name,
            "checkpoint": str(m.checkpoint) if m.checkpoint else None,
            "checkpoint_sha256": sha256_of(m.checkpoint) if m.checkpoint else None,
            "config": {table: m.preset.to_dict()[table] for table in ("model", "ttt", "vote")},
        }
        for m in setup.specs[0].members
    ]
    hashes = {h for m in setup.specs[0].members if m.checkpoint for h in read_header(m.checkpoint)[1].hashes}
    installed = {name: _version(name) for name in ("torch", "numpy", "numba")}
    platform_name = f"{sys.platform} {platform.machine()}"
    description = {
        "command": "solve",
        "started": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        **described(options),
        "tasks": [task.id for task in wanted] if options.chooses else None,
        "challenges_sha256": digest(options.challenges),
        "presets": setup.presets,
        "checkpoint": first["checkpoint"],
        "checkpoint_sha256": first["checkpoint_sha256"],
        "config": setup.preset.to_dict(),
        "members": others,
        "versions": {"hrm_submit": __version__, "python": platform.python_version(), **installed, "platform": platform_name},
        "machine": machine(setup.gpus),
        "trained_on": tasks_with_pairs_of(hashes, {t.id: t for t in wanted}),
        "devices": [spec.location for spec in setup.specs],
    }
    description["warning"] = training_warning(description)
    if description["warning"]:
        log.warning("%s", description["warning"])
    as_read: dict[str, Any] = json.loads(json.dumps(description))
    return as_read


def _version(package: str) -> str | None:
    """Return the version of a package without importing it, None where its installation does not tell."""
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def _other_settings(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an earlier run that its answers depend on and that differ from those of this one, by their `run.json`; what
    one of them does not tell counts as equal."""
    ours = _settings(now)
    return {name: value for name, value in _settings(earlier).items() if value != ours.get(name, value)}


def _settings(run: Mapping[str, Any]) -> dict[str, Any]:
    config, members = run.get("config"), run.get("members")
    names = {"checkpoint_sha256": "--checkpoint with SHA-256", "seed": SEED, "segments": SEGMENTS}
    found = {name: run[key] for key, name in names.items() if key in run}
    if isinstance(members, list):  # wherever their files lie
        found["[solve] members with SHA-256"] = [m.get("checkpoint_sha256") for m in members if isinstance(m, dict)]
        found["[solve] members with settings"] = [m.get("config") for m in members if isinstance(m, dict)]
    for table in ("model", "ttt", "vote"):
        values = config.get(table) if isinstance(config, dict) else None
        found |= {f"[{table}] {key} =": value for key, value in values.items()} if isinstance(values, dict) else {}
    return found
