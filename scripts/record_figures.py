"""Write what a run scored as a record that README and docs/ quote: docs/figures/NAME.json.

    python scripts/record_figures.py RUN_DIR --solutions F --what "400 ARC-AGI-1 evaluation tasks" --output docs/figures/arc-1.json

`make docs-check` compares every quoted figure with these records, and the weights of a record with those in the package.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.docs.record import record

from hrm_submit.cli import exit_status


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("--solutions", type=Path, required=True, metavar="F")
    parser.add_argument("--challenges", type=Path, metavar="F", help="the challenges file, if it has moved since the run")
    parser.add_argument("--what", required=True, help="what was run, in a few words")
    parser.add_argument("--output", type=Path, required=True, metavar="F.json")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    return exit_status("record_figures", lambda: record(args), OSError)


if __name__ == "__main__":
    sys.exit(main())
