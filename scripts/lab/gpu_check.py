"""Steps that check a GPU machine, each in a process with a time limit; the table of what they found and the advice that follows."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.core.device import cards, cpu_count, list_devices, machine
from hrm_submit.core.errors import ConfigError
from hrm_submit.run.cost import training_bytes
from hrm_submit.solver.messages import Answer, Restarted
from hrm_submit.solver.solver import TaskSolver
from lab.benchmark import shown
from lab.published import SIDE, Way, kit_way, published_way, segment, wait

SCRIPTS = Path(__file__).resolve().parents[1]
LIMITS = {"machine": 60, "numbers": 60, "speed": 240, "memory": 60, "oom": 60, "solve": 240, "killed": 120}
"""Seconds that each step may take."""
GAIN = 1.1
"""Compiling is advised from this many times the plain rate on."""
SOLVE_TASKS = 12
FIXED = ("--segments-per-task", "20")


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
        more = "; ".join(f"{key} {shown(value)}" for key, value in self.more.items())
        verdict = "" if self.ok is None else "ok" if self.ok else "FAILED"
        return {"step": self.step, "what": self.what, "value": f"{shown(self.value)} {self.unit}".rstrip(), "": verdict, "more": more}


@dataclass(frozen=True)
class Options:
    """What a step is told: the device, a challenges file or "", and whether it runs in its shortest form."""

    device: str
    challenges: str
    quick: bool


def check(args: argparse.Namespace) -> int:
    """Run the steps, print and write what they found; 1 where one failed. Raises UserError, also where there is no such GPU."""
    if unknown := [name for name in args.steps if name not in LIMITS]:
        raise ConfigError(f"no step {', '.join(unknown)}; known: {', '.join(LIMITS)}")
    if args.json and not args.json.parent.is_dir():
        raise ConfigError(f"{args.json}: no such folder")
    if args.challenges and not args.challenges.is_file():
        raise ConfigError(f"{args.challenges}: no such file")
    if args.device != "cpu":
        list_devices(args.device)
    options, figures = Options(args.device, str(args.challenges or ""), args.quick), list[Figure]()
    for name in args.steps or LIMITS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures += run_step(name, options, LIMITS[name])
        if args.json:  # written after each step, so that a crash of the machine loses one
            about = {"machine": machine(), "device": args.device}
            args.json.write_text(json.dumps({"about": about, "figures": [asdict(f) for f in figures]}, indent=1) + "\n", encoding="utf-8")
    print(pd.DataFrame([figure.cells() for figure in figures]).to_string(index=False))
    print("\n".join(advice(figures)))
    return 1 if any(figure.ok is False for figure in figures) else 0


def run_step(name: str, options: Options, limit: float) -> list[Figure]:
    """Return what a step finds in a process of its own, and a failed figure where it crashes or takes longer than `limit` seconds."""
    path = os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "lab.gpu_check", name, json.dumps(asdict(options))]
    environment, pipe = {**os.environ, "PYTHONPATH": path}, subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)
    try:
        out, err = process.communicate(timeout=limit)
        last = next((line.strip() for line in reversed(err.splitlines()) if line.strip()), "")
        fault = f"exit status {process.returncode}: {last}" if process.returncode else ""
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own children too
        out, fault = process.communicate()[0], f"not done after {limit:.0f} s"
    found = [Figure(name, **json.loads(line)) for line in out.splitlines() if line.startswith("{")]
    return found + ([Figure(name, "the step itself", fault, ok=False)] if fault else [])


def advice(figures: Sequence[Figure]) -> list[str]:
    """Return for each preset whether to set `[device] compile`: where it is faster by `GAIN` and no step failed."""
    rates = {f.what: float(f.value) for f in figures if f.step == "speed" and not isinstance(f.value, str)}
    lines = []
    for preset in dict.fromkeys(what.split(",")[0] for what in rates):
        gain = rates.get(f"{preset}, batch 32, compiled", 0.0) / rates.get(f"{preset}, batch 32, plain", float("inf"))
        said = "leave [device] as it is" if gain < GAIN else f"compiled is {gain:.1f} times as fast: set [device] engine = compile"
        failed = gain >= GAIN and any(f.ok is False for f in figures)
        lines.append(f"{preset}: {'checks failed: leave [device] as it is' if failed else said}")
    return lines


def tell(what: str, value: float | str, unit: str = "", ok: bool | None = None, **more: Any) -> None:
    """Print one figure for the process that reads this one."""
    print(json.dumps({"what": what, "value": value, "unit": unit, "ok": ok, "more": more}), flush=True)


def step_machine(options: Options) -> None:
    """The card, its memory and the cores."""
    tell("machine", machine(), cores=cpu_count(), torch=torch.__version__, cuda=torch.version.cuda)
    for card in cards([options.device]):
        tell("card", card.name, capability=card.capability, memory=f"{card.memory_gib:.1f} GiB")


def _rate(call: Callable[[], object], options: Options) -> float:
    """Return how often a second `call` is done, after a warm-up."""
    for _ in range(1 if options.quick else 5):
        call()
    wait(options.device)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < (0.1 if options.quick else 1.5) or done < 3:
        call()
        done += 1
        if done % 5 == 0:
            wait(options.device)
    wait(options.device)
    return done / (time.perf_counter() - began)


def step_numbers(options: Options) -> None:
    """Losses of ten updates against float32 on the CPU."""
    base = _plain(kit_way("nano", "cpu", batch=4), "float32")
    for side in (3,) if options.quick else (3, 10, SIDE):
        expected = _losses(base, side)
        for dtype in ("float32",) if options.quick else ("float32", "bfloat16", "float16"):
            got = _losses(_plain(kit_way("nano", options.device, batch=4), dtype), side)
            off = max(abs(a - b) / max(abs(b), 0.1) for a, b in zip(got, expected, strict=True))
            tell(f"nano, side {side}, {dtype}", off, "off", ok=off < (0.01 if dtype == "float32" else 0.1))


def _plain(way: Way, dtype: str) -> Way:
    return replace(way, runtime=replace(way.runtime, dtype=dtype, kernels="torch", engine="plain"))


def _losses(way: Way, side: int) -> list[float]:
    call = segment(way, side)
    return [call().item() for _ in range(10)]


def step_speed(options: Options) -> None:
    """Examples a second, plain and compiled, beside the published way on 900 tokens."""
    for name, side in (("nano", 15),) if options.quick else (("nano", 15), ("nano-2d", 15), ("hrm-27m", SIDE)):
        for batch in (2,) if options.quick else (8, 32, 96):
            kit = kit_way(name, options.device, batch=batch)
            ways = {"plain": (replace(kit, runtime=replace(kit.runtime, engine="plain")), side)}
            if not options.quick:
                ways["compiled"] = replace(kit, runtime=replace(kit.runtime, engine="compile")), side
                ways["published way"] = published_way(kit), SIDE
            for label, (way, canvas) in ways.items():
                what = f"{name}, batch {batch}, {label}"
                try:
                    tell(what, batch * _rate(segment(way, canvas), options), "examples/s", side=canvas)
                except Exception as error:  # the other ways are measured all the same
                    tell(what, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", ok=False)


def step_memory(options: Options) -> None:
    """Peak memory of a segment against what the plan reckons with."""
    if options.device == "cpu":
        return tell("peak memory", "needs a GPU")
    for name, batch in (("nano", 32), ("hrm-27m", 8)):
        way = kit_way(name, options.device, batch=batch)
        call = segment(way, SIDE)
        torch.cuda.reset_peak_memory_stats(options.device)
        call()
        peak = torch.cuda.max_memory_allocated(options.device)
        element = 4 if way.runtime.dtype == "float32" else 2
        planned = training_bytes(way.preset.model, SIDE**2, batch, element=element, fused_attention=way.runtime.attention == "sdpa")
        tell(f"{name}, side {SIDE}, batch {batch}", peak / 2**20, "MiB", ok=peak <= planned, planned=f"{planned / 2**20:.0f} MiB")


def step_oom(options: Options) -> None:
    """A batch that does not fit what is left of the card: it is halved, and the task answered."""
    if options.device == "cpu":
        return tell("memory that runs out", "needs a GPU")
    way = kit_way("nano", options.device, batch=64)
    solver = TaskSolver(way.preset, way.runtime)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(options.device)
    taken = torch.empty(max(0, free - 2**29), dtype=torch.uint8, device=options.device)
    said = list(solver.solve(made_up("oom", 29), segments=10))
    halved, last = sum(isinstance(message, Restarted) for message in said), said[-1]
    answered = isinstance(last, Answer) and last.final and all(last.outputs)
    tell("memory that runs out", f"batch halved {halved} times", ok=halved > 0 and answered, taken=f"{taken.nbytes / 2**30:.1f} GiB")


def made_up(task_id: str, side: int, seed: int = 0) -> Task:
    """Return a task of three pairs of `side` x `side` grids whose cells take the next colour."""
    grids = [make_grid(np.random.default_rng([seed, k]).integers(0, 9, (side, side))) for k in range(4)]
    return Task(task_id, tuple(Pair(grid, make_grid(grid + 1)) for grid in grids[:3]), (grids[3],))


def step_solve(options: Options) -> None:
    """Twelve tasks in two minutes: in time and valid; fixed work twice: equal or not."""
    seconds = 30 if options.quick else 120
    with TemporaryDirectory() as name:
        folder, tasks = Path(name), _challenges(Path(name), options)
        began = time.monotonic()
        run = _solve(folder, tasks, options, "timed", "--time-budget", f"{seconds}s")
        status, took = run.wait(), time.monotonic() - began
        tell(f"{len(tasks)} tasks in {seconds} s", took, "s", ok=status == 0 and took <= seconds)
        tell("the file", "is checked", ok=_valid(folder, "timed"))
        for out in ("first", "second"):
            _solve(folder, tasks, options, out, *FIXED).wait()
        equal = (folder / "first.json").read_bytes() == (folder / "second.json").read_bytes()
        tell("fixed work twice", "equal" if equal else "not equal", ok=True if equal else None)


def step_killed(options: Options) -> None:
    """A worker killed at its first task: the run ends well, and its file is valid."""
    with TemporaryDirectory() as name:
        folder, tasks = Path(name), _challenges(Path(name), options)
        run, killed, events = _solve(folder, tasks, options, "killed", *FIXED), 0, folder / "killed" / "events.jsonl"
        while run.poll() is None and not killed:
            time.sleep(0.05)
            if events.exists() and b"task_start" in events.read_bytes():
                killed = _kill_a_worker(run.pid)
        tell("a killed worker", f"worker {killed} killed", ok=bool(killed) and run.wait() == 0 and _valid(folder, "killed"))


def _kill_a_worker(supervisor: int) -> int:
    """Kill one worker of a supervisor (Linux only); its process id, or 0."""
    for child in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)
                return int(child)
    return 0


def _challenges(folder: Path, options: Options) -> list[str]:
    """Write the tasks to solve into `folder`; their ids."""
    path = folder / "challenges.json"
    if options.challenges:
        path.write_bytes(Path(options.challenges).read_bytes())
    else:
        sides = [3, 5, 8, 10, 12, 14, 16, 18, 20, 22, 25, 29][: 2 if options.quick else SOLVE_TASKS]
        write_challenges(path, {f"side{side}": made_up(f"side{side}", side, side) for side in sides})
    return list(json.loads(path.read_bytes()))[:SOLVE_TASKS]


def _solve(folder: Path, tasks: Sequence[str], options: Options, out: str, *more: str) -> subprocess.Popen[bytes]:
    files = ["--challenges", str(folder / "challenges.json"), "--output", str(folder / f"{out}.json"), "--run-dir", str(folder / out)]
    command = [sys.executable, "-m", "hrm_submit", "solve", *files, "--devices", options.device, "--tasks", ",".join(tasks), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _valid(folder: Path, out: str) -> bool:
    files = ["--submission", str(folder / f"{out}.json"), "--challenges", str(folder / "challenges.json")]
    return subprocess.run([sys.executable, "-m", "hrm_submit", "validate", *files], stdout=subprocess.DEVNULL).returncode == 0


if __name__ == "__main__":
    told = Options(**json.loads(sys.argv[2]))
    if told.device != "cpu":
        torch.cuda.set_device(told.device)
    globals()[f"step_{sys.argv[1]}"](told)
