"""Every speed that README quotes, each against a baseline measured in the same run.

    python scripts/benchmark.py                                      # all rows on this machine
    python scripts/benchmark.py training rate --json figures.json
    python scripts/benchmark.py growth --plot growth.svg
    python scripts/benchmark.py --devices cuda:0 --markdown

A value is a median after a warm-up; what is compared takes turns. "Published way": 900 tokens a pair, a second forward for the
continue target, torch's own attention (on a GPU the model compiled whole), in the same number format as the kit's.

rows:
  augmentation  examples/s of augmentation and tokens, against the published rule in numpy
  training      examples/s of a training segment on evaluation demonstrations, against the published way and against 900 tokens
  rate          what share of the measured matrix-product rate that is
  inference     test grids/s with votes, against 16 steps of 900 tokens; how many answers are equal, and what they score
  fitting       seconds of test-time training to fitted demonstrations, and augmentation's share of them
  memory        peak memory of training and inference
  start         seconds to help, imports, and the first training segment
  growth        seconds against tokens, batch and tasks
  estimate      on a GPU: seconds of 240 tasks on four L4 cards
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

# Threads that spin while they wait take the cores from others; must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from lab.bench.rows import Row

from hrm_submit.core.allocator import large_pages_for_children
from hrm_submit.core.errors import UserError

TUNED = "GLIBC_TUNABLES"
GROUPS = ("augmentation", "training", "rate", "inference", "fitting", "memory", "start", "growth", "estimate")
PRESETS = "hrm-27m,hrm-7m,nano"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which rows (default: all)")
    parser.add_argument("--devices", default="auto", metavar="auto|cpu|cuda:0", help="the first of them is measured")
    parser.add_argument("--repeats", type=_positive, default=3, metavar="N", help="timed rounds of each row (default: %(default)s)")
    parser.add_argument(
        "--tasks", type=_positive, default=3, metavar="N", help="tasks of each set, spread over the sizes (default: %(default)s)"
    )
    parser.add_argument("--presets", default=PRESETS, metavar="P,P", help="of training, rate, memory and estimate (default: %(default)s)")
    parser.add_argument("--most", type=_positive, default=60, metavar="S", help="seconds at which fitting gives up (default: %(default)s)")
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPU threads (default: torch's)")
    parser.add_argument("--json", type=Path, metavar="F", help="write all rows, with the machine and versions")
    parser.add_argument("--plot", type=Path, metavar="F.svg", help="draw growth")
    parser.add_argument("--markdown", action="store_true", help="print the table as README has it")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    unknown = sorted(set(args.rows) - set(GROUPS))
    if unknown:
        print(f"benchmark: no row {', '.join(unknown)}; known: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    for path in filter(None, (args.json, args.plot)):
        if not path.parent.is_dir():
            print(f"benchmark: {path}: no such folder", file=sys.stderr)
            return 2
    try:
        return run(args)
    except UserError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2


def run(args: argparse.Namespace) -> int:
    """Measure the rows asked for, show each as it is done, and write them. Raises UserError."""
    import torch

    from hrm_submit.core.allocator import keep_freed_memory
    from hrm_submit.core.device import list_devices, machine

    if args.threads:
        torch.set_num_threads(args.threads)
    device, wanted = list_devices(args.devices)[0], set(args.rows or GROUPS)
    if device == "cpu":
        keep_freed_memory()
    about = {"machine": machine(), "device": device, "threads": str(torch.get_num_threads()), "python": platform.python_version()}
    about |= {name: version(name) for name in ("hrm-submit", "torch", "numpy", "numba")}
    print(", ".join(f"{key} {value}" for key, value in about.items()), file=sys.stderr)
    found: list[Row] = []
    for groups, measure in _measures(device, args).items():
        if not wanted & set(groups):
            continue
        print(f"measuring {', '.join(groups)} ...", file=sys.stderr, flush=True)
        for row in measure():
            if row.group in wanted:
                found.append(row)
                print(row, file=sys.stderr, flush=True)
    print(_markdown(found, about) if args.markdown else _table(found))
    if args.json:
        args.json.write_text(json.dumps({"about": about, "rows": [asdict(row) for row in found]}, indent=1) + "\n")
    if args.plot and "growth" in wanted:
        from lab.bench.growth import draw

        draw(found, args.plot)
    return 0


def _measures(device: str, args: argparse.Namespace) -> dict[tuple[str, ...], Callable[[], list[Row]]]:
    """What to call for which groups."""
    from lab.bench import augmentation, estimate, fitting, growth, inference, processes, training
    from lab.bench.work import threads

    from hrm_submit.config.layers import load_preset
    from hrm_submit.core.device import on_threads
    from hrm_submit.model.packaged import packaged_checkpoint, resolve_preset
    from hrm_submit.model.weights import load_checkpoint

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


def _table(rows: Sequence[Row]) -> str:
    import pandas as pd

    cells = [(row.group, row.name, f"{row.value:.4g} {row.unit}", _baseline(row), _ratio(row)) for row in rows]
    return pd.DataFrame(cells, columns=["row", "what", "value", "baseline", "ratio"]).to_string(index=False)


def _markdown(rows: Sequence[Row], about: dict[str, str]) -> str:
    """README's table; growth is a picture there."""
    lines = [
        ", ".join(f"{key} {value}" for key, value in about.items()),
        "",
        "| row | what | value | baseline | ratio | more |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.group} | {row.name} | {row.value:.4g} {row.unit} | {_baseline(row)} | {_ratio(row)} | {row.remarks} |"
        for row in rows
        if row.group != "growth"
    ]
    return "\n".join(lines)


def _baseline(row: Row) -> str:
    return row.baseline if row.base_value is None else f"{row.base_value:.4g}, {row.baseline}"


def _ratio(row: Row) -> str:
    return "" if row.ratio is None else f"{row.ratio:.2f}"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


if __name__ == "__main__":
    if sys.platform == "linux" and TUNED not in os.environ:
        # As in the kit's workers, the C library reads this when a process starts.
        large_pages_for_children()
        os.execv(sys.executable, [sys.executable, *sys.argv])
    sys.exit(main())
