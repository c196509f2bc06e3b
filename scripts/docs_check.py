"""Check README and docs/: run their commands, follow their links, compare their figures with the records.

    python scripts/docs_check.py                       # every page, what takes seconds
    python scripts/docs_check.py docs/budget.md --all  # one page, what takes minutes too
    python scripts/docs_check.py --still               # runs nothing
    python scripts/docs_check.py --write               # fills in the tables of docs/figures/ first

One line a fault; exit 0 without any, 1 with some. What marks in a page mean: scripts/lab/docs/page.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.docs.check import check

from hrm_submit.cli import exit_status


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="which pages (default: README.md and all below docs/)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--all", action="store_true", help="run the blocks marked as slow too")
    kind.add_argument("--still", action="store_true", help="run nothing")
    parser.add_argument("--write", action="store_true", help="fill in the tables of the records first")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    return exit_status("docs_check", lambda: check(args), OSError)


if __name__ == "__main__":
    sys.exit(main())
