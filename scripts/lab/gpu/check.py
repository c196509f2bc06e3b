"""Steps one after the other, each in a process with a limit; the table of what they found, and what follows from it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hrm_submit.core.device import list_devices, machine
from hrm_submit.core.errors import ConfigError
from lab.bench.rows import shown

LIMITS = {
    "machine": 60,
    "numbers": 120,
    "speed": 240,
    "waits": 60,
    "memory": 60,
    "workers": 90,
    "oom": 60,
    "compiler": 120,
    "solve": 210,
}
"""Seconds that each step may take."""

SCRIPTS = Path(__file__).resolve().parents[2]
FIRST_GAIN = 1.1
"""A way of computing is worth its key from this many times the plain way's examples a second on."""


@dataclass(frozen=True)
class Figure:
    """One line of the table; `ok` is None where there is nothing to pass."""

    step: str
    what: str
    value: float | str
    unit: str = ""
    ok: bool | None = None
    more: dict[str, Any] = field(default_factory=dict)


def check(args: argparse.Namespace) -> int:
    """Run the steps, show and write what they found; 1 where something failed, 2 without a GPU. Raises UserError."""
    unknown = [s for s in args.steps if s not in LIMITS]
    if unknown:
        raise ConfigError(f"no step {', '.join(unknown)}; known: {', '.join(LIMITS)}")
    if args.json and not args.json.parent.is_dir():
        raise ConfigError(f"{args.json}: no such folder")
    if args.challenges and not args.challenges.is_file():
        raise ConfigError(f"{args.challenges}: no such file")
    if args.device != "cpu":
        list_devices(args.device)  # raises where there is no such GPU, which exits 2
    figures: list[Figure] = []
    for step in args.steps or LIMITS:
        print(f"{step} ...", file=sys.stderr, flush=True)
        figures += run_step(step, args.device, args.challenges, args.quick, LIMITS[step])
        if args.json:  # what is known is on disk, whatever the next step does
            about = {"machine": machine(), "device": args.device}
            args.json.write_text(json.dumps({"about": about, "figures": [asdict(f) for f in figures]}, indent=1) + "\n", encoding="utf-8")
    print(table(figures).to_string(index=False))
    for line in advice(figures):
        print(line)
    return 1 if any(f.ok is False for f in figures) else 0


def run_step(name: str, device: str, challenges: Path | None, quick: bool, limit: float) -> list[Figure]:
    """What a step finds in a process of its own; one figure that failed where it crashes or takes longer than `limit` seconds."""
    path = os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "lab.gpu.steps", name, device, str(challenges or ""), "quick" if quick else "whole"]
    environment, pipe = {**os.environ, "PYTHONPATH": path}, subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)
    try:
        out, err = process.communicate(timeout=limit)
        fault = f"exit status {process.returncode}: {last_line(err)}" if process.returncode else ""
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own children too
        out, _ = process.communicate()
        fault = f"not done after {limit:.0f} s"
    found = [Figure(name, **json.loads(line)) for line in out.splitlines() if line.startswith("{")]
    return found + ([Figure(name, "the step itself", fault, ok=False)] if fault else [])


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def table(figures: Sequence[Figure]) -> pd.DataFrame:
    """The figures as text."""
    said = {True: "ok", False: "FAILED", None: ""}
    lines = [
        {
            "step": f.step,
            "what": f.what,
            "value": f"{shown(f.value)} {f.unit}".rstrip(),
            "": said[f.ok],
            "more": "; ".join(f"{key} {shown(value)}" for key, value in f.more.items()),
        }
        for f in figures
    ]
    return pd.DataFrame(lines, columns=["step", "what", "value", "", "more"])


def advice(figures: Sequence[Figure]) -> list[str]:
    """Which `[device]` keys to turn on, by what was measured: only what gave right numbers and is faster by `FIRST_GAIN`."""
    speeds = {f.what: float(f.value) for f in figures if f.step == "speed" and not isinstance(f.value, str)}
    right = not any(f.ok is False for f in figures if f.step in ("numbers", "speed", "waits"))
    lines = []
    for preset in dict.fromkeys(what.split(",")[0] for what in speeds):
        ways = {"": {}, "compiled": {"compile": True}, "recorded": {"cuda_graphs": True}}
        ways["compiled and recorded"] = {"compile": True, "cuda_graphs": True}
        rates = {way: speeds.get(f"{preset}, batch 32, {way or 'eager'}", 0.0) for way in ways}
        best = max(rates, key=lambda way: rates[way])
        if not rates[""] or not best or rates[best] < FIRST_GAIN * rates[""]:
            lines.append(f"{preset}: leave [device] as it is")
        elif not right:
            lines.append(f"{preset}: {best} is {rates[best] / rates['']:.1f} times as fast, but checks failed: leave [device] as it is")
        else:
            keys = ", ".join(f"{key} = true" for key in ways[best])
            lines.append(f"{preset}: {best} is {rates[best] / rates['']:.1f} times as fast: set [device] {keys}")
    return lines
