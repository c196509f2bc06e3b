"""The steps, each run by name as a process: `python -m lab.gpu.steps NAME DEVICE CHALLENGES quick|whole` prints a JSON object a figure."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.core.device import cards, cpu_count, machine
from hrm_submit.run.memory import training_bytes
from lab.bench.published import SIDE, exact
from lab.bench.timing import medians, products, wait
from lab.gpu import faults
from lab.gpu.work import Way, batches, made_up, segments, trainer, way

NANO, LARGE = "nano", "hrm-27m"
SEVERAL = 4
"""Segments that a sequence is carried through, beside the one of `nano`."""
SOLVE_SECONDS, SOLVE_TASKS, FIXED_SEGMENTS = 120, 12, 20


def tell(what: str, value: float | str, unit: str = "", ok: bool | None = None, **more: Any) -> None:
    """Print one figure."""
    print(json.dumps({"what": what, "value": value, "unit": unit, "ok": ok, "more": more}), flush=True)


def step_machine(device: str, quick: bool) -> None:
    tell("machine", machine(), cores=cpu_count(), torch=torch.__version__, cuda=torch.version.cuda)
    for card in cards([device]):
        tell("card", card.name, capability=card.capability, memory=f"{card.memory_gib:.1f} GiB")
    small = torch.ones(1, device=device)

    def launches() -> None:
        for _ in range(1000):
            small.add_(0.0)

    tell("a launch", 1e3 * medians({"l": launches}, repeats=3, device=device)["l"], "us")
    for dtype in (torch.bfloat16, torch.float16, torch.float32) if not quick else (torch.float32,):
        calls = products(device, dtype)
        took = medians({name: call for name, (call, _) in calls.items()}, repeats=3, device=device)
        tell(f"matrix products, {dtype}".replace("torch.", ""), max(w / took[n] for n, (_, w) in calls.items()) / 1e12, "TFLOP/s")
    source = torch.empty(2**24 if quick else 2**29, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    tell("copies", 2e-9 * source.numel() / medians({"c": lambda: target.copy_(source)}, repeats=3, device=device)["c"], "GB/s")


def step_numbers(device: str, quick: bool) -> None:
    """Losses of 20 updates against float32 on the CPU, and the direction of the first gradient."""
    formats = ("float32",) if quick or device == "cpu" else ("float32", "bfloat16", "float16")
    for name, most in ((NANO, 1), (NANO, SEVERAL)) if quick else ((NANO, 1), (NANO, SEVERAL), (LARGE, 1)):
        label = name if most == 1 else f"{name} up to {most} segments"
        for side in (3,) if quick else (3, 10, 21, 30):
            updates = 20 if name == NANO or side == 3 else 3
            losses, gradient = _learnt(way(name, "cpu", batch=2, most=most), side, updates)
            for dtype in formats:
                for attention in ("sdpa", "math"):
                    for recorded in (False, True) if name == NANO else (False,):
                        how = way(name, device, batch=2, recorded=recorded, most=most)
                        how = replace(how, runtime=replace(how.runtime, dtype=dtype, attention=attention))
                        got, turned = _learnt(how, side, updates)
                        off = max(abs(a - b) / max(abs(b), 0.1) for a, b in zip(got, losses, strict=True))
                        along = torch.nn.functional.cosine_similarity(turned, gradient, dim=0).item()
                        fine = (off < 0.01 and along > 0.999) if dtype == "float32" else (off < 0.1 and along > 0.98)
                        what = f"{label}, side {side}, {dtype}, {attention}{', recorded' if recorded else ''}"
                        tell(what, off, "off", ok=fine, gradient=round(along, 4))


def _learnt(how: Way, side: int, updates: int) -> tuple[list[float], torch.Tensor]:
    """Losses of the first `updates`, and the gradient of the first by what the output layer moved."""
    trained = trainer(how)
    task = made_up("numbers", max(1, side - 1))
    grads: list[torch.Tensor] = []
    trained.model.lm_head.register_hook(lambda grad: grads.append(grad.float().cpu().flatten()) if len(grads) < 1 else None)
    running = trained.run(batches(how, task, side), lambda: 0.5)
    return [next(running).loss.item() for _ in range(updates)], grads[0]


def step_speed(device: str, quick: bool) -> None:
    """Examples a second in each way, on 900 tokens as published and on a canvas of side 15, ARC-AGI-1's mean."""
    for name, side in ((NANO, 15),) if quick else ((NANO, 15), (LARGE, 30)):
        for batch in (2,) if quick else (8, 32, 96):
            ways = {"eager": way(name, device, batch=batch), "recorded": way(name, device, batch=batch, recorded=True)}
            if name == NANO:
                ways[f"recorded, up to {SEVERAL} segments"] = way(name, device, batch=batch, recorded=True, most=SEVERAL)
            if not quick:
                ways["compiled"] = way(name, device, batch=batch, compiled=True)
                ways["compiled and recorded"] = way(name, device, batch=batch, compiled=True, recorded=True)
            for label, how in ways.items():
                _rate(f"{name}, batch {batch}, {label}", how, side, batch, device)
            if not quick:
                base = way(name, device, batch=batch)
                published = Way(exact(base.preset), replace(base.runtime, attention="sdpa", kernels="torch"), whole=True)
                _rate(f"{name}, batch {batch}, published way compiled", published, SIDE, batch, device)


def _rate(what: str, how: Way, side: int, batch: int, device: str) -> None:
    try:
        call = segments(how, side)
        for _ in range(5):
            call()
        wait(device)
        began, n = time.perf_counter(), 0
        while time.perf_counter() - began < 1.5 or n < 3:
            call()
            n += 1
            if n % 5 == 0:
                wait(device)
        wait(device)
        rate = n * batch / (time.perf_counter() - began)
        events: dict[str, Any] = _events(call, device)
        tell(what, rate, "examples/s", side=side, **events)
    except Exception as error:  # one way that fails says so, the others go on
        tell(what, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", ok=False)


def _events(call: Callable[[], object], device: str) -> dict[str, int]:
    """Launches and waits of one segment, as torch's profiler counts them; operations on a CPU."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device != "cpu":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        call()
        wait(device)
    counts = {event.key: event.count for event in profile.key_averages()}
    if device == "cpu":
        return {"operations": sum(n for key, n in counts.items() if key.startswith("aten::"))}
    launches = sum(n for key, n in counts.items() if "Launch" in key)
    waits = sum(n for key, n in counts.items() if "Synchronize" in key) - 1  # the one that ends the measurement
    return {"launches": launches, "waits": waits}


def step_waits(device: str, quick: bool) -> None:
    for recorded, most in itertools.product((False, True), (1, SEVERAL)):
        what = f"ten segments{', recorded' if recorded else ''}{f', up to {most} a sequence' if most > 1 else ''}"
        call = segments(way(NANO, device, batch=8, recorded=recorded, most=most), 10)
        for _ in range(5):
            call()
        if device != "cpu":
            torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(10):
                call()
            tell(what, "nothing waits", ok=True)
        except RuntimeError as error:
            tell(what, str(error).splitlines()[0], ok=False)
        finally:
            if device != "cpu":
                torch.cuda.set_sync_debug_mode("default")


def step_memory(device: str, quick: bool) -> None:
    if device == "cpu":
        tell("peak memory", "needs a GPU")
        return
    for name, side, batch in ((NANO, 30, 32), (LARGE, 30, 8)):
        how = way(name, device, batch=batch)
        call = segments(how, side)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        wait(device)
        peak = torch.cuda.max_memory_allocated(device)
        element = 4 if how.runtime.dtype == "float32" else 2
        planned = training_bytes(how.preset.model, side**2, batch, element=element, fused_attention=how.runtime.attention == "sdpa")
        tell(f"{name}, side {side}, batch {batch}", peak / 2**20, "MiB", ok=peak <= planned, planned=f"{planned / 2**20:.0f} MiB")


def step_workers(device: str, quick: bool) -> None:
    """Examples a second of several processes, which start together and count for the same seconds."""
    code = (
        "import sys, time; from lab.gpu.steps import *\n"
        "call = segments(way(NANO, sys.argv[1], batch=int(sys.argv[3])), 15); [call() for _ in range(5)]; wait(sys.argv[1])\n"
        "print('ready', flush=True); input(); end = time.time() + float(sys.argv[2]); n = 0\n"
        "while time.time() < end: call(); n += 1; wait(sys.argv[1]) if n % 5 == 0 else None\n"
        "wait(sys.argv[1]); print(n * int(sys.argv[3]))"
    )
    seconds, batch = (1.0, 2) if quick else (5.0, 32)
    for count in (1,) if quick else (1, 2, 4):
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", code, device, str(seconds), str(batch)]
        workers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(count)]
        for worker in workers:
            assert worker.stdout is not None and worker.stdout.readline().strip() == "ready"
        done = [worker.communicate("\n")[0] for worker in [_begin(w) for w in workers]]
        tell(f"{count} processes", sum(int(text) for text in done) / seconds, "examples/s")


def _begin(worker: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    return worker


def step_solve(device: str, quick: bool, challenges: str = "") -> None:
    with TemporaryDirectory() as name:
        folder, seconds = Path(name), 30 if quick else SOLVE_SECONDS
        tasks = Path(challenges) if challenges else folder / "challenges.json"
        if not challenges:
            sides = [3, 5, 8, 10, 12, 14, 16, 18, 20, 22, 25, 29][: 2 if quick else SOLVE_TASKS]
            write_challenges(tasks, {f"side{s}": made_up(f"side{s}", s, seed=s) for s in sides})
        ids = list(json.loads(tasks.read_bytes()))[:SOLVE_TASKS]
        options = ["--challenges", str(tasks), "--devices", device, "--seed", "0", "--tasks", ",".join(ids)]

        def solve(out: str, *more: str) -> float:
            files = ["--output", str(folder / f"{out}.json"), "--run-dir", str(folder / out)]
            began = time.monotonic()
            subprocess.run([sys.executable, "-m", "hrm_submit", "solve", *options, *files, *more], check=True, stdout=subprocess.DEVNULL)
            return time.monotonic() - began

        took = solve("timed", "--time-budget", f"{seconds}s")
        tell(f"{len(ids)} tasks in {seconds} s", took, "s", ok=took <= seconds)
        valid = [sys.executable, "-m", "hrm_submit", "validate", "--submission", str(folder / "timed.json"), "--challenges", str(tasks)]
        tell("the file", "valid", ok=subprocess.run(valid, check=False, stdout=subprocess.DEVNULL).returncode == 0)
        run = json.loads((folder / "timed" / "run.json").read_text(encoding="utf-8"))
        tell("the profile taken", run["presets"] or "none", workers=len(run["devices"]))
        for out in ("first", "second"):
            solve(out, "--segments-per-task", str(2 if quick else FIXED_SEGMENTS))
        equal = (folder / "first.json").read_bytes() == (folder / "second.json").read_bytes()
        tell("fixed work twice", "equal" if equal else "not equal", ok=True if equal else None)


def main() -> None:
    """The step that the command line names."""
    name, device, challenges, amount = sys.argv[1:5]
    steps: dict[str, Callable[..., None]] = {n.removeprefix("step_"): f for n, f in globals().items() if n.startswith("step_")}
    steps |= {"oom": faults.memory_runs_out, "compiler": faults.compilers_fail}
    if device != "cpu":
        torch.cuda.set_device(device)
    more = (challenges,) if name == "solve" else (tell,) if name in ("oom", "compiler") else ()
    steps[name](device, amount == "quick", *more)


if __name__ == "__main__":
    main()
