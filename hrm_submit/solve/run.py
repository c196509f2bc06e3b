"""`solve` from end to end: check everything, write a valid file, run the supervisor, sum up.

All that wrong input can cause is raised before the first task starts; after that a run always ends with an answer.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import sys
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from hrm_submit import __version__
from hrm_submit.arc.challenges import read_challenges
from hrm_submit.arc.fit import check_model
from hrm_submit.core.clock import Clock
from hrm_submit.core.config import Preset
from hrm_submit.core.device import list_devices
from hrm_submit.core.errors import ModelConflictError, SolveError
from hrm_submit.core.presets import load_preset, preset_names, read_presets
from hrm_submit.core.runfolder import RunWriter, read_run
from hrm_submit.predict.raw import RAW
from hrm_submit.solve.answers import AnswerBook
from hrm_submit.solve.watch import Watcher

log = logging.getLogger(__name__)

DEFAULT_PRESET = "nano"


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
    if request.output.exists() and request.output.samefile(request.challenges):
        raise SolveError(f"{request.output}: cannot be both the challenges and the submission file")
    order = [*tasks, *broken]
    wanted = _wanted(request, tasks, broken)
    digest = hashlib.sha256(request.challenges.read_bytes()).hexdigest()
    book = AnswerBook(order, tasks, broken, request.output)
    finished: set[str] = set()
    if (request.run_dir / "run.json").is_file():
        record = read_run(request.run_dir)
        if record.run.get("challenges_sha256", digest) != digest:
            raise SolveError(f"{request.run_dir}: run folder of another challenges file ({record.run.get('challenges')})")
        finished = book.restore(record)
        if finished:
            log.warning(
                "%s: goes on from an earlier run; %d tasks keep their answers (another --run-dir solves anew)",
                request.run_dir,
                len(finished),
            )
    book.create()  # valid from the first second: before torch is imported, weights read or a GPU touched
    if request.from_the_box:
        request = replace(request, checkpoint=checkpoint_in_the_box(request.presets))
    preset = resolve_preset(request.presets, request.checkpoint)
    run = RunWriter(request.run_dir, clock.elapsed)
    for line in broken.values():
        log.warning("%s", line.fault)
    todo = tuple(tasks[i] for i in wanted if i not in finished)

    from hrm_submit.solve.staff import worker_specs
    from hrm_submit.solve.supervisor import Plan, Supervisor

    devices = list_devices(request.devices)
    specs, preset = worker_specs(devices, preset, request.checkpoint, request.seed, todo, request.segments is not None)
    if preset.vote.save_raw:
        specs = [replace(spec, raw=request.run_dir / RAW) for spec in specs]
    run.describe({**_describe(request, preset, digest), "devices": [s.device for s in specs]})
    run.event("run_start", budget=request.budget, tasks=len(tasks), broken=sorted(broken), resumed=len(finished))
    run.event("plan", todo=[t.id for t in todo], workers=len(specs), devices=[s.device for s in specs])
    plan = Plan(todo, request.budget, request.segments, tuple(tasks[i] for i in wanted if i in tasks), request.run_dir)
    watcher = Watcher(len(wanted), done=len(wanted) - len(todo))
    try:
        Supervisor(plan, specs, preset, book, run, clock, watcher).run()
    finally:
        watcher.close()
        fault = book.save()
        run.event("run_end", answered=len(book.answered), seconds=round(clock.elapsed(), 3), unsaved=fault)
    if fault:
        log.error("the last answers could not be written: %s", fault)
    faults = tuple(b.fault for b in broken.values())
    return SolveSummary(len(order), len(book.answered), len(finished), len(wanted), faults, clock.elapsed())


def checkpoint_in_the_box(presets: str) -> Path | None:
    """The checkpoint that the package carries, if it carries one and every named preset suits its model. Raises ConfigError."""
    path = Path(str(resources.files("hrm_submit") / "checkpoints" / f"{DEFAULT_PRESET}.safetensors"))
    if not path.is_file():
        return None
    try:
        resolve_preset(presets, path)
    except ModelConflictError:
        return None
    return path


def resolve_preset(names: str, checkpoint: Path | None) -> Preset:
    """The preset to run with: what `names` layers, and the checkpoint's `[model]`. Where no name describes a model (a profile of a
    device, a tuned budget), they are laid over the checkpoint's own preset, or over the default one.

    Raises ConfigError where a named preset asks for another model than the checkpoint has.
    """
    if checkpoint is None:
        preset = load_preset(_whole(names, DEFAULT_PRESET))
        check_model(preset.model, f"preset {names}")
        return preset
    from hrm_submit.model.weights import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    check_model(loaded.config, str(checkpoint))
    if names:
        fixed = asdict(loaded.config)
        for name, tables in read_presets(names):
            model = tables.get("model")
            for key, value in model.items() if isinstance(model, dict) else ():
                if key in fixed and fixed[key] != value:
                    raise ModelConflictError(f"preset {name}: [model] {key} = {value!r}, but {checkpoint} was trained with {fixed[key]!r}")
    own = loaded.meta.preset if loaded.meta.preset and all(n in preset_names() for n in loaded.meta.preset.split(",")) else DEFAULT_PRESET
    return replace(load_preset(_whole(names, own)), model=loaded.config)


def _whole(names: str, own: str) -> str:
    """`names`, over `own` where none of them describes a model."""
    if not names:
        return own
    return names if any("model" in tables for _, tables in read_presets(names)) else f"{own},{names}"


def _wanted(request: SolveRequest, tasks: Any, broken: Any) -> list[str]:
    if request.tasks is None:
        return list(tasks)
    unknown = [t for t in request.tasks if t not in tasks and t not in broken]
    if unknown:
        raise SolveError(f"{request.challenges}: has no task {', '.join(unknown)}")
    return [t for t in tasks if t in set(request.tasks)]


def _describe(request: SolveRequest, preset: Preset, digest: str) -> dict[str, Any]:
    return {
        "command": "solve",
        "challenges": str(request.challenges),
        "challenges_sha256": digest,
        "checkpoint": str(request.checkpoint) if request.checkpoint else None,
        "presets": request.presets,
        "config": preset.to_dict(),
        "seed": request.seed,
        "budget": request.budget,
        "segments": request.segments,
        "versions": _versions(),
    }


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
