"""Measure every speed that docs/speed.md quotes, each against a baseline of the same run.

    python scripts/benchmark.py                                      # all rows on this machine
    python scripts/benchmark.py training start --json figures.json
    python scripts/benchmark.py --devices cuda:0

A value is a median after a warm-up; what is compared takes turns. "Published way": 900 tokens a pair, a second forward for the
continue target, torch's own attention (on a GPU the model compiled whole), in the number format of the kit.

rows:
  augmentation  examples/s of augmentation and tokens, against the published rule in numpy
  training      examples/s of a training segment on canvases of side 10, 20, 30, against the published way
  inference     test grids/s with votes, against 16 steps of 900 tokens
  memory        peak memory of training and inference, against the published way
  start         seconds to help, imports, and the first training segment
  kernels       milliseconds of the CPU's compiled axial attention, against torch's operations
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hrm_submit.cli import exit_status
from hrm_submit.core.device import large_pages_for_children


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which rows (default: all)")
    parser.add_argument("--devices", default="auto", metavar="auto|cpu|cuda:0", help="the first of them is measured")
    parser.add_argument("--json", type=Path, metavar="F", help="write all rows, with the machine and versions")
    args = parser.parse_args(argv)
    # Threads that spin while they wait take the cores from others; must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from lab.benchmark import measure

    return exit_status("benchmark", lambda: measure(args))


if __name__ == "__main__":
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        # As in the kit's workers, the C library reads this when a process starts.
        large_pages_for_children()
        os.execv(sys.executable, [sys.executable, *sys.argv])
    sys.exit(main())
