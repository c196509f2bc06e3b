"""Mutate, read, judge."""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from hrm_submit.core.errors import ConfigError, UserError, clipped
from lab.fuzz.kinds import KINDS, Kind

MOST_SECONDS = 5.0


@dataclass
class Found:
    """What became of the inputs of one kind."""

    used: int = 0
    refused: int = 0
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


def fuzz(args: argparse.Namespace) -> int:
    """All kinds that are asked for; the table, and 1 where a rule was broken. Raises ConfigError."""
    unknown = [name for name in args.kinds if name not in KINDS]
    if unknown:
        raise ConfigError(f"no kind {unknown[0]}; known: {', '.join(KINDS)}")
    found = {}
    for name in args.kinds or KINDS:
        found[name] = fuzz_kind(name, KINDS[name], args.count or KINDS[name].count, args.seed, args.keep)
    rows = [
        {"kind": n, "used": f.used, "refused": f.refused, "faults": len(f.faults), "slowest s": round(f.slowest, 2)}
        for n, f in found.items()
    ]
    print(pd.DataFrame(rows).to_string(index=False))
    for name, each in found.items():
        for fault in each.faults[:10]:
            print(f"{name}: {fault}")
    return 1 if any(f.faults for f in found.values()) else 0


def fuzz_kind(name: str, kind: Kind, count: int, seed: int, keep: Path) -> Found:
    """`count` mutated inputs of one kind, read one after the other."""
    found, rng = Found(), random.Random(f"{name}/{seed}")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        real, place, out = (Path(scratch, part) for part in ("real", "place", "out"))
        real.mkdir()
        kind.real(real)
        files = sorted(p for p in real.iterdir() if p.is_file() and p.name not in ("challenges.json", "s.json"))
        for number in tqdm(range(count), desc=name, disable=None, leave=False):
            for folder in (place, out):
                shutil.rmtree(folder, ignore_errors=True)
            out.mkdir()
            if kind.whole_folder:
                shutil.copytree(real, place)
            else:
                place.mkdir()
            file = rng.choice(files)
            (place / file.name).write_bytes(kind.mutation(file.name)(file.read_bytes(), rng))
            before = _listing(Path(scratch)) | {"place"}
            fault = _judge(kind, place if kind.whole_folder else place / file.name, out, found)
            if fault is None and (strange := {p for p in _listing(Path(scratch)) - before if not p.startswith("out/")}):
                fault = f"wrote {min(strange)}"
            if fault:
                kept = keep / f"{name}-{seed}-{number}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(place, kept)
                found.faults.append(f"{kept}: {fault}")
    return found


def _judge(kind: Kind, path: Path, out: Path, found: Found) -> str | None:
    """Which rule one input breaks."""
    began = time.perf_counter()
    fault = None
    try:
        kind.use(path, out)
        found.used += 1
    except UserError as error:
        found.refused += 1
        if "\n" in str(error).strip():
            fault = f"a message of several lines: {clipped(error)}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        fault = f"{type(error).__name__}: {clipped(error, 120)} ({Path(where.filename).name}:{where.lineno})"
    seconds = time.perf_counter() - began
    found.slowest = max(found.slowest, seconds)
    return fault or (f"took {seconds:.1f} s" if seconds > MOST_SECONDS else None)


def _listing(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*")}
