"""The rows asked for, measured one group after the other, and the table of them."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from typing import Any

import torch

from hrm_submit.config.preset_files import load_preset
from hrm_submit.core.allocator import keep_freed_memory
from hrm_submit.core.device import list_devices, machine, on_threads
from hrm_submit.core.errors import ConfigError
from hrm_submit.core.files import sha256_of
from hrm_submit.model.packaged import packaged_checkpoint, resolve_preset
from hrm_submit.model.weights import load_checkpoint
from lab.bench import augmentation, estimate, fitting, growth, inference, processes, training
from lab.bench.rows import GROUPS, Row, table
from lab.bench.work import threads
from lab.markdown import to_markdown


def measure(args: argparse.Namespace) -> int:
    """Measure the rows asked for, show each as it is done, and write them. Raises UserError."""
    unknown = sorted(set(args.rows) - set(GROUPS))
    if unknown:
        raise ConfigError(f"no row {', '.join(unknown)}; known: {', '.join(GROUPS)}")
    for path in filter(None, (args.json, args.plot)):
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: no such folder")
    if args.threads:
        torch.set_num_threads(args.threads)
    device, wanted = list_devices(args.devices)[0], set(args.rows or GROUPS)
    if device == "cpu":
        keep_freed_memory()
    about = {"machine": machine(), "device": device, "threads": str(torch.get_num_threads()), "python": platform.python_version()}
    about |= {name: version(name) for name in ("hrm-submit", "torch", "numpy", "numba")}
    told = ", ".join(f"{key} {value}" for key, value in about.items())
    print(told, file=sys.stderr)
    found: list[Row] = []
    for groups, rows in _measures(device, args).items():
        if not wanted & set(groups):
            continue
        print(f"measuring {', '.join(groups)} ...", file=sys.stderr, flush=True)
        for row in rows():
            if row.group in wanted:
                found.append(row)
                print(row, file=sys.stderr, flush=True)
    if args.markdown:  # as README has it, where growth is a picture
        print(f"{told}\n\n{to_markdown(table([row for row in found if row.group != 'growth']))}")
    else:
        print(table(found).drop(columns="more").to_string(index=False))
    if args.json:
        args.json.write_text(json.dumps(as_record(about, found), indent=1) + "\n", encoding="utf-8")
    if args.plot and "growth" in wanted:
        growth.draw(found, args.plot)
    return 0


def as_record(about: dict[str, str], found: list[Row]) -> dict[str, Any]:
    """The rows as docs/ quotes them, with what they are of: `values` by group and name, `table` as text, growth apart, as it is drawn."""
    box = packaged_checkpoint("")
    values: dict[str, dict[str, Any]] = {}
    for row in found:
        values.setdefault(row.group, {})[row.name] = {"value": row.value, "ratio": row.ratio}
    command = " ".join(["python", *sys.argv])
    return {
        "about": {"what": "speeds, each against a baseline of the same run", "command": command, "date": date.today().isoformat(), **about},
        "weights": sha256_of(box) if box else None,
        "rows": [asdict(row) for row in found],
        "values": values,
        "table": table([row for row in found if row.group != "growth"]).to_dict(orient="records"),
    }


def _measures(device: str, args: argparse.Namespace) -> dict[tuple[str, ...], Callable[[], list[Row]]]:
    """What to call for which groups."""
    presets = [name for name in args.presets.split(",") if name]
    for name in presets:
        load_preset(name)
    box = packaged_checkpoint("")
    assert box is not None, "the package carries a checkpoint"
    nano, weights = resolve_preset("", box), load_checkpoint(box)

    def as_a_worker(rows: Callable[[], list[Row]]) -> list[Row]:
        with on_threads(threads(nano)):
            return rows()

    return {
        ("augmentation",): lambda: augmentation.rows(args.repeats, 6 * args.tasks),
        ("training", "rate"): lambda: training.rows(args.repeats, device, presets, args.tasks),
        ("inference",): lambda: as_a_worker(lambda: inference.rows(args.repeats, device, nano, weights, args.tasks)),
        ("fitting",): lambda: as_a_worker(lambda: fitting.rows(args.repeats, device, nano, weights, args.tasks, args.most)),
        ("memory",): lambda: processes.memory_rows(device, presets),
        ("start",): lambda: processes.start_rows(args.repeats, device),
        ("growth",): lambda: as_a_worker(lambda: growth.rows(args.repeats, device, nano)),
        ("estimate",): lambda: estimate.rows(args.repeats, device, presets, args.tasks),
    }
