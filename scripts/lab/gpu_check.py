"""Steps that check a GPU machine, each in a process with a time limit; the table of what they found and the verdict."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import psutil
import torch
from kaggle_kit.processes import run_limited

from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.submission import file_faults
from hrm_submit.config.runtime import preset_of_cards, runtime_for
from hrm_submit.config.schema import Preset
from hrm_submit.core.device import cards, list_devices, machine
from hrm_submit.core.errors import ConfigError
from hrm_submit.model.packaged import EnsembleMember, packaged_checkpoint, resolve_preset
from hrm_submit.model.weights import load_checkpoint
from hrm_submit.record.events import EngineChosen
from hrm_submit.run.cost import segment_work, training_bytes
from hrm_submit.run.engines import PAYS_FROM
from hrm_submit.run.placement import with_device, worker_specs
from hrm_submit.run.protocol import Assignment, Failed, WorkerSpec
from hrm_submit.run.worker import Worker
from hrm_submit.solver.engine import Trial, compared, measure
from hrm_submit.solver.messages import Answer, Restarted
from hrm_submit.solver.solver import TaskSolver
from lab.benchmark import MIDDLE_SIDE, sample, shown
from lab.published import SIDE, Way, kit_way, medians, published_way, segment, wait

SCRIPTS = Path(__file__).resolve().parents[1]
LIMITS = {"engine": 180, "speed": 120, "workers": 100, "memory": 60, "killed": 120}
"""Seconds that each step may take."""
GAIN = 1.1
"""Another number of workers is advised from this many times the rate of the planned number on."""


@dataclass(frozen=True)
class Figure:
    """One line of the table; `ok` is None where nothing can fail."""

    step: str
    what: str
    value: float | str
    unit: str = ""
    ok: bool | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def cells(self) -> dict[str, str]:
        """The figure as text, by column."""
        value, more = f"{shown(self.value)} {self.unit}".rstrip(), "; ".join(f"{key} {shown(value)}" for key, value in self.more.items())
        return {"step": self.step, "what": self.what, "value": value, "": {None: "", True: "ok", False: "FAILED"}[self.ok], "more": more}


@dataclass(frozen=True)
class Options:
    """What a step is told: the device (`cpu`: a rehearsal in the shortest form), and the engine and number format chosen there."""

    device: str
    engine: str = "plain"
    dtype: str = "auto"

    def preset(self, name: str = "") -> tuple[Preset, Path | None]:
        """Return the preset `name`, or that of a run on the device, with the choice, and its packaged weights."""
        name = name or preset_of_cards(cards([self.device]))
        checkpoint = packaged_checkpoint(name)
        preset = resolve_preset(name, checkpoint)
        return replace(preset, device=replace(preset.device, engine=self.engine, dtype=self.dtype)), checkpoint  # type: ignore[arg-type]


def check(args: argparse.Namespace) -> int:
    """Run the steps, print and write what they found; 1 where one failed. Raises UserError, also where there is no such GPU."""
    if unknown := [name for name in args.steps if name not in LIMITS]:
        raise ConfigError(f"no step {', '.join(unknown)}; known: {', '.join(LIMITS)}")
    if args.json and not args.json.parent.is_dir():
        raise ConfigError(f"{args.json}: no such folder")
    if args.device != "cpu":
        list_devices(args.device)
    options, figures = Options(args.device), list[Figure]()
    for name in args.steps or LIMITS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures += run_step(name, options, LIMITS[name])
        for choice in (f.more for f in figures if f.what == "choice"):
            options = replace(options, engine=choice["engine"], dtype=choice["dtype"])
        if args.json:  # written after each step, so that a crash of the machine loses one
            about = {"machine": machine(), "device": args.device, "torch": torch.__version__, "cuda": torch.version.cuda}
            args.json.write_text(json.dumps({"about": about, "figures": [asdict(f) for f in figures]}, indent=1) + "\n", encoding="utf-8")
    print(pd.DataFrame([figure.cells() for figure in figures]).to_string(index=False))
    print("\n".join(verdict(figures)))
    return 1 if any(figure.ok is False for figure in figures) else 0


def run_step(name: str, options: Options, limit: float) -> list[Figure]:
    """Return what a step finds in a process of its own, and a failed figure where it crashes or takes longer than `limit` seconds."""
    path = os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "lab.gpu_check", name, json.dumps(asdict(options))]
    environment, said = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, list[str]()  # as many threads as a worker has
    status = run_limited(command, limit, env=environment, cwd=Path.cwd(), on_text=said.append).status
    lines = [line for line in "".join(said).splitlines() if line.strip()]
    found, last = list[Figure](), ""
    for line in lines:
        try:
            found.append(Figure(name, **json.loads(line)))
        except (ValueError, TypeError):  # what libraries and errors say goes to the same place
            last = line.strip()
    if status == 0:
        return found
    fault = f"not done after {limit:.0f} s" if status is None else f"exit status {status}: {last}"
    return [*found, Figure(name, "the step itself", fault, ok=False)]


def verdict(figures: Sequence[Figure]) -> list[str]:
    """Say what failed, what a run will compute by, and how many workers suit the device."""
    failed, found = dict.fromkeys(f.step for f in figures if f.ok is False), {f.what: f for f in figures}
    lines = ["Verdict: this device does what a run needs."]
    if failed:
        lines = [f"Verdict: {', '.join(failed)} FAILED, see above. A run still ends with a valid file, but may lose time or the device."]
    if choice := found.get("choice"):
        rates = {f.what: float(f.value) for f in figures if f.unit == "examples/s"}
        gain = rates.get(str(choice.value), 0.0) / rates.get("plain in float32", float("inf"))
        lines += [f"Runs from {PAYS_FROM / 60:.0f} minutes on compute by {choice.value}, {gain:.2g} times as fast as plain in float32."]
    if at_once := {int(f.more["workers"]): float(f.value) for f in figures if "workers" in f.more}:
        planned, best = int(found["workers planned"].value), max(at_once, key=lambda n: at_once[n])
        now = at_once[max(n for n in at_once if n <= planned)]
        advice = "leave it so" if at_once[best] < GAIN * now else f"set [device] workers_per_gpu = {best}"
        lines += [f"A run starts {planned} workers; {best} train {at_once[best] / at_once[1]:.2g} times as much as one: {advice}."]
    return lines


def tell(what: str, value: float | str, unit: str = "", ok: bool | None = None, **more: Any) -> None:
    """Print one figure for the process that reads this one."""
    print(json.dumps({"what": what, "value": value, "unit": unit, "ok": ok, "more": more}), flush=True)


def step_engine(options: Options) -> None:
    """Plain float32 against the CPU's, then the choice as the first worker of a run makes it."""
    for card in cards([options.device]):
        tell("card", card.name, capability=card.capability, memory=f"{card.memory_gib:.1f} GiB")
    (preset, checkpoint), task = options.preset(), sample(100)[0 if options.device == "cpu" else 50]
    plain, source = replace(preset.device, dtype="float32", kernels="torch"), load_checkpoint(checkpoint) if checkpoint else None
    ours, theirs = (measure(TaskSolver(preset, runtime_for(device, plain), source), task) for device in (options.device, "cpu"))
    _tell_trial("against the CPU", against := compared(Trial("plain", "float32"), ours, theirs), ok=not against.fault)
    worker = Worker(WorkerSpec(0, options.device, with_device([EnsembleMember("checked", preset, checkpoint)], engine="auto"), 0))
    for said in worker.serve(Assignment(task, None, 20, compare_seconds=4.0 if options.device == "cpu" else 90.0)):
        if isinstance(said, EngineChosen) and said.trials:
            for trial in said.trials:
                _tell_trial(f"{trial['engine']} in {trial['dtype']}", Trial(**trial))
            tell("choice", f"{said.engine} in {said.dtype}", engine=said.engine, dtype=said.dtype)
        elif isinstance(said, EngineChosen | Failed):
            tell("after the choice", said.reason or "" if isinstance(said, EngineChosen) else said.fault, ok=False)


def _tell_trial(what: str, trial: Trial, ok: bool | None = None) -> None:
    off = f"losses by {trial.losses:.2%}, predictions by {trial.predictions:.2%}"
    tell(what, trial.rate, "examples/s", ok, differs=off, fault=trial.fault or "none")


def step_speed(options: Options) -> None:
    """The rate of matrix products; of training as chosen, and of the published way compiled on 900 tokens."""
    here = options.device == "cpu"
    dtype, n = runtime_for(options.device, options.preset()[0].device).dtype, 256 if here else 8192
    left, right = torch.randn(2, n, n, device=options.device).to(getattr(torch, dtype))
    products = 2 * n**3 / medians({"": lambda: left @ right}, repeats=9, device=options.device)[""]
    tell("matrix products", products / 1e12, "TFLOP/s", dtype=dtype)
    names = ("nano",) if here else ("nano", "gpu-small")
    kits = {name: kit_way(options.preset(name)[0], options.device, batch=2 if here else None) for name in names}
    ways = [(f"{name}, as chosen", kit, MIDDLE_SIDE) for name, kit in kits.items()]
    ways += [(f"{name}, published way, compiled", published_way(kit), 5 if here else SIDE) for name, kit in kits.items()]
    for what, way, side in ways:
        took = medians({"": segment(way, side)}, repeats=1 if here else 50, device=options.device)[""]
        size, share = way.preset.ttt.batch_size, segment_work(way.preset.model, way.preset.ttt, side * side) / took / products
        tell(what, size / took, "examples/s", batch=size, side=side, of_matrix_rate=f"{share:.2%}")


_call: Callable[[], object]


def _begin(options: Options, started: Any) -> None:
    """Prepare a process of `step_workers`, and wait for the others."""
    global _call
    preset, _ = options.preset()
    _call = segment(Way(preset, runtime_for(options.device, preset.device)), MIDDLE_SIDE)
    _trained(options, 3)
    started.wait()


def _trained(options: Options, least: int = 0) -> float:
    """Return the segments a second of two seconds of training, or of the `least` number."""
    began, done = time.perf_counter(), 0
    while done < least or time.perf_counter() - began < (0.1 if options.device == "cpu" else 2.0):
        _call()
        done += 1
        wait(options.device)
    return done / (time.perf_counter() - began)


def step_workers(options: Options) -> None:
    """Examples a second of several processes at once, beside the number of workers that a run starts."""
    preset, checkpoint = options.preset()
    specs = worker_specs([options.device], [EnsembleMember("checked", preset, checkpoint)], 0, sample(100), fixed_work=False)
    tell("workers planned", len(specs))
    counts, context = (1, 2) if options.device == "cpu" else (1, 2, 4), get_context("spawn")
    with ProcessPoolExecutor(counts[-1], context, _begin, (options, context.Barrier(counts[-1]))) as pool:
        list(pool.map(_trained, [options] * counts[-1]))  # the barrier lets no process begin alone
        for n in counts:
            rate = preset.ttt.batch_size * sum(pool.map(_trained, [options] * n))
            tell(f"{n} at once", rate, "examples/s", workers=n)


def step_memory(options: Options) -> None:
    """Peak memory of a segment against the plan; then a batch that does not fit what is left of the card."""
    if options.device == "cpu":
        return tell("memory", "needs a GPU")
    for name, batch in (("nano", 32), ("gpu-small", 32), ("hrm-27m", 8)):
        way = kit_way(name, options.device, batch=batch)
        call = segment(way, SIDE)
        torch.cuda.reset_peak_memory_stats(options.device)
        call()
        peak = torch.cuda.max_memory_allocated(options.device)
        element = getattr(torch, way.runtime.dtype).itemsize
        planned = training_bytes(way.preset.model, SIDE**2, batch, element=element, fused_attention=way.runtime.attention == "sdpa")
        tell(f"{name}, side {SIDE}, batch {batch}", peak / 2**20, "MiB", ok=peak <= planned, planned=f"{planned / 2**20:.0f} MiB")
    task = max(sample(100), key=canvas_side)
    way = kit_way("nano", options.device, batch=64)
    solver = TaskSolver(way.preset, way.runtime)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(options.device)
    taken = torch.empty(max(0, free - 2**29), dtype=torch.uint8, device=options.device)
    said = list(solver.solve(task, segments=10))
    halved, last = sum(isinstance(message, Restarted) for message in said), said[-1]
    answered = isinstance(last, Answer) and last.final and all(last.outputs)
    tell("memory that runs out", f"batch halved {halved} times", ok=halved > 0 and answered, taken=f"{taken.nbytes / 2**30:.1f} GiB")


def step_killed(options: Options) -> None:
    """Fixed work undisturbed, then with a worker killed at its first task: the files are valid, and equal or not."""
    with TemporaryDirectory() as name:
        folder, tasks = Path(name), {task.id: task for task in sample(2 if options.device == "cpu" else 12)}
        write_challenges(folder / "challenges.json", tasks)
        began, run, killed = time.monotonic(), _solve(folder, options, "whole"), 0
        status, whole = run.wait(), folder / "whole.json"
        outputs = {task: len(found.test) for task, found in tasks.items()}
        tell("undisturbed", time.monotonic() - began, "s", ok=status == 0 and not file_faults(whole, outputs))
        run, events, other = _solve(folder, options, "killed"), folder / "killed" / "events.jsonl", folder / "killed.json"
        while run.poll() is None and not killed:
            time.sleep(0.05)
            if events.exists() and b"task_start" in events.read_bytes():
                killed = _kill_a_worker(run.pid)
        tell("a killed worker", f"process {killed} killed", ok=bool(killed) and run.wait() == 0 and not file_faults(other, outputs))
        tell("fixed work twice", "equal" if whole.read_bytes() == other.read_bytes() else "not equal")


def _kill_a_worker(supervisor: int) -> int:
    """Kill one worker of a supervisor; its process id, or 0."""
    with suppress(psutil.Error):
        for child in psutil.Process(supervisor).children():
            if any("spawn_main" in word for word in child.cmdline()):
                child.kill()
                return child.pid
    return 0


def _solve(folder: Path, options: Options, out: str) -> subprocess.Popen[bytes]:
    files = ["--challenges", str(folder / "challenges.json"), "--output", str(folder / f"{out}.json"), "--run-dir", str(folder / out)]
    work = ["--devices", options.device, "--segments-per-task", "20"]
    return subprocess.Popen([sys.executable, "-m", "hrm_submit", "solve", *files, *work], stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    told = Options(**json.loads(sys.argv[2]))
    if told.device != "cpu":
        torch.cuda.set_device(told.device)
    globals()[f"step_{sys.argv[1]}"](told)
