"""One turn on a GPU, stage by stage, each a process of its own with a deadline; what is done is noted, so that a killed turn goes on."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.jsonio import write_json
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Solutions, Task
from hrm_submit.config.preset_files import load_preset
from hrm_submit.core.device import list_devices, machine
from hrm_submit.core.errors import CheckpointError, ConfigError, DataError
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.corpora.sources import load, load_corpora, parse_spec
from hrm_submit.train.resume import STATE_FILE
from lab.gpu.check import last_line
from lab.markdown import to_markdown

PART_BYTES = 15 * 2**20
AFTERWARDS = 10.0
"""Seconds kept for the score, the report and the export of the weights."""
LATE = 30.0
"""Seconds after its deadline by which a stage is told to end, and then killed."""
LEAST_SOLVING = 5.0
REPORTED = (
    {"what": "HRM, 27M, as its authors report", "tasks": "400", "pass@2 %": "40.3", "seconds": "8 GPUs, about 24 h"},
    {"what": "mdlARC, 75M, as its author reports", "tasks": "400", "pass@2 %": "44", "seconds": "2 h of an RTX 5090"},
)
"""To compare with; on all of ARC-AGI-1 evaluation."""


@dataclass(frozen=True)
class Sample:
    """Tasks to solve, and what is known of their answers, which only the score is given."""

    name: str
    tasks: Mapping[str, Task]
    solutions: Solutions


class Turn:
    """The folder of a turn, and the seconds that it has used: those of the stages' processes, earlier calls included."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self._path = folder / "turn.json"
        self.notes: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8")) if self._path.is_file() else {}
        self.notes.setdefault("stages", {})
        self._before, self._began = float(self.notes.get("seconds", 0.0)), time.monotonic()

    @property
    def used(self) -> float:
        """Seconds of the turn that are over."""
        return self._before + time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds that stages may still use."""
        return self.seconds - self.used

    def note(self, **values: Any) -> None:
        """Write down what is known by now."""
        self.notes |= values
        write_json(self._path, {**self.notes, "seconds": round(self.used, 1)})

    def stage(self, name: str, seconds: float, *command: object) -> bool:
        """Run one `hrm-submit` command unless an earlier call did; it should end within `seconds`. Returns whether it succeeded."""
        stages = self.notes["stages"]
        if name in stages:
            return bool(stages[name]["ok"])
        print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
        began, log_file = self.used, self.folder / f"{name}.log"
        with log_file.open("a", encoding="utf-8") as out:
            process = subprocess.Popen([sys.executable, "-m", "hrm_submit", *map(str, command)], stderr=out, start_new_session=True)
            try:
                code = self._await(process, seconds)
            finally:
                if process.poll() is None:  # Ctrl-C, or an error of ours
                    os.killpg(process.pid, signal.SIGKILL)
        fault = "" if code == 0 else f"exit status {code}: {last_line(log_file.read_text(encoding='utf-8', errors='replace'))}"
        if fault:
            print(f"{name}: {fault}", file=sys.stderr)
        stages[name] = {"ok": code == 0, "seconds": round(self.used - began, 1), **({"fault": fault} if fault else {})}
        self.note()
        return code == 0

    def _await(self, process: subprocess.Popen[bytes], seconds: float) -> int:
        """Its exit status; it is told to end when it is late, and killed when it is later."""
        deadline = time.monotonic() + seconds + LATE
        for step in (signal.SIGTERM, signal.SIGKILL, None):
            while time.monotonic() < deadline:
                try:
                    return process.wait(timeout=1.0)
                except subprocess.TimeoutExpired:
                    self.note()  # a turn that is killed knows how long it lasted
            if step is not None:
                os.killpg(process.pid, step)
            deadline = time.monotonic() + LATE
        return -1


def turn(args: argparse.Namespace) -> int:
    """Do what the options say; 1 where no sample was scored. Raises UserError before the first stage for what cannot work."""
    samples = check(args)
    args.out.mkdir(parents=True, exist_ok=True)
    state = Turn(args.out, 60 * args.minutes)
    options = {k: str(v) for k, v in vars(args).items() if k not in ("minutes", "out")}
    if state.notes.setdefault("options", options) != options:
        changed = next(k for k, v in options.items() if state.notes["options"].get(k) != v)
        raise ConfigError(f"{args.out}: holds a turn with another --{changed.replace('_', '-')}; choose another folder")
    state.note(machine=machine(), minutes=args.minutes)
    weights = pretrain(state, args)
    rest = [s for s in samples if f"score-{s.name}" not in state.notes]
    for number, sample in enumerate(rest):
        tasks = sum(len(s.tasks) for s in rest[number:])
        share = (state.left - AFTERWARDS * len(rest[number:])) * len(sample.tasks) / tasks
        if share >= LEAST_SOLVING:
            solve(state, args, sample, weights, share)
    scores = {s.name: state.notes[f"score-{s.name}"] for s in samples if f"score-{s.name}" in state.notes}
    table = summary(state, samples, scores)
    state.note(done=True)
    collect(state, table)
    print(table.to_string(index=False))
    return 0 if scores else 1


def check(args: argparse.Namespace) -> list[Sample]:
    """The samples, when everything that the options name is there. Raises UserError."""
    if not 0 < args.minutes < 1e4 or not 0 <= args.train_share < 1:
        raise ConfigError("--minutes must be above 0, --train-share at least 0 and below 1")
    list_devices(args.devices)
    load_preset(args.preset)
    load_corpora(args.data)
    if args.start_from and not args.start_from.exists():
        raise CheckpointError(f"{args.start_from}: no such checkpoint")
    samples = [sample_of(spec) for spec in args.sets.split(",")]
    names = [s.name for s in samples]
    if len(set(names)) < len(names):
        raise ConfigError(f"--sets {args.sets}: two sets of one name")
    return samples


def sample_of(spec: str) -> Sample:
    """Every N-th task, by size, of `NAME|F:N`. Raises DataError."""
    source, _, every = parse_spec(spec)
    if every < 1 or every != int(every):
        raise DataError(f"{spec}: says with a whole number from 1 on of how many tasks one is taken")
    tasks, solutions = load(source, solutions=True)
    chosen = sorted(tasks.values(), key=lambda t: (canvas_side(t), t.id))[:: int(every)]
    missing = [t.id for t in chosen if t.id not in solutions]
    if missing:
        raise DataError(f"{source}: has no solution of {missing[0]}")
    return Sample(Path(source).stem, {t.id: t for t in chosen}, {t.id: solutions[t.id] for t in chosen})


def pretrain(state: Turn, args: argparse.Namespace) -> Path | None:
    """Train for its share; returns the weights to solve with: the decayed ones, or the best that there are."""
    out = state.folder / "pretrain"
    seconds = args.train_share * state.seconds
    if seconds:
        options: list[object] = ["--preset", args.preset, "--data", args.data, "--time-budget", f"{seconds:.0f}s", "--out", out]
        options += ["--devices", args.devices, "--seed", args.seed, "--save-every", "30s"]
        if (out / STATE_FILE).exists():
            options.append("--resume")
        elif args.start_from:
            options += ["--from", args.start_from]
        state.stage("pretrain", seconds, "pretrain", *options)
    found = [out / f"{name}.safetensors" for name in ("final", "undecayed")]
    return next((path for path in found if path.exists()), args.start_from)


def solve(state: Turn, args: argparse.Namespace, sample: Sample, weights: Path | None, seconds: float) -> None:
    """Solve a sample, score it and make its report."""
    folder = state.folder / sample.name
    folder.mkdir(exist_ok=True)
    challenges, solutions, submission = (folder / f"{name}.json" for name in ("challenges", "solutions", "submission"))
    write_challenges(challenges, sample.tasks)
    write_solutions(solutions, sample.solutions)
    options = ["--challenges", challenges, "--output", submission, "--run-dir", folder / "run", "--preset", args.preset]
    options += ["--checkpoint", weights or "none", "--devices", args.devices, "--seed", args.seed]
    state.stage(f"solve-{sample.name}", seconds, "solve", *options, "--time-budget", f"{seconds:.0f}s")
    said = subprocess.run(
        [sys.executable, "-m", "hrm_submit", "score", "--submission", submission, "--solutions", solutions], capture_output=True, text=True
    )
    if said.returncode:
        print(f"{sample.name}: {last_line(said.stderr)}", file=sys.stderr)
        return
    state.note(**{f"score-{sample.name}": json.loads(said.stdout)})
    shown = ["--run-dir", folder / "run", "--solutions", solutions, "--output", state.folder / f"{sample.name}.html"]
    state.stage(f"report-{sample.name}", AFTERWARDS, "report", *shown)


def summary(state: Turn, samples: list[Sample], scores: Mapping[str, Any]) -> pd.DataFrame:
    """What the turn reached, in seconds of the machine, beside what others report."""
    stages = state.notes["stages"]
    trained = float(stages.get("pretrain", {}).get("seconds", 0.0))
    lines = []
    for sample in samples:
        score, solving = scores.get(sample.name), stages.get(f"solve-{sample.name}", {}).get("seconds", 0.0)
        lines.append(
            {
                "what": f"this turn, {sample.name}",
                "tasks": str(len(sample.tasks)),
                "pass@2 %": f"{100 * score['pass@2']:.1f}" if score else "not scored",
                "seconds": f"{trained:.0f} pre-training, {solving:.0f} solving",
            }
        )
    return pd.DataFrame([*lines, *REPORTED])


def collect(state: Turn, table: pd.DataFrame) -> None:
    """What is to be kept, in few files: notes, reports, and the weights in bfloat16."""
    from hrm_submit.model.weights import load_checkpoint, save_parts
    from lab.gpu.halves import in_bfloat16

    back = state.folder / "back"
    shutil.rmtree(back, ignore_errors=True)
    back.mkdir()
    for name in ("undecayed", "final"):
        path = state.folder / "pretrain" / f"{name}.safetensors"
        if path.exists():
            save_parts(back / name, in_bfloat16(load_checkpoint(path, rows=True)), PART_BYTES)
    for path in [state.folder / "turn.json", *state.folder.glob("*.html")]:
        shutil.copy(path, back)
    (back / "turn.md").write_text(to_markdown(table) + "\n", encoding="utf-8")
