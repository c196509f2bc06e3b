"""Test readers with hostile input: thousands of files mutated from real ones; each is used, or refused in one line.

    python scripts/fuzz.py                                     # all kinds: some minutes
    python scripts/fuzz.py checkpoints --count 200 --seed 7

No traceback, no message of several lines, no file outside the output, at most five seconds for each. Inputs that break a rule are kept
under --keep. Exits 1 where there are any.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from hrm_submit.cli import OneLineParser, exit_status


def main(argv: Sequence[str] | None = None) -> int:
    from lab.fuzz.kinds import KINDS

    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"which: {', '.join(KINDS)} (default: all)")
    parser.add_argument("--count", type=int, metavar="N", help="so many of each (default: as many as each kind has)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("build") / "fuzz", metavar="D", help="where inputs that break a rule go")
    args = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)  # what readers warn of is not asked here
    from lab.fuzz.run import fuzz

    return exit_status("fuzz", lambda: fuzz(args), OSError)


if __name__ == "__main__":
    sys.exit(main())
