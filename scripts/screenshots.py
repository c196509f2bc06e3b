"""Take pictures of a report for docs/: its head, its tasks and its time, as a browser shows them.

    python scripts/screenshots.py report.html docs/

Needs Chromium and playwright (the extra `test`). Exit 0, or 2 where one is missing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lab.screenshots import take

from hrm_submit.cli import exit_status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    return exit_status("screenshots", lambda: print(*take(args.report, args.folder), sep="\n") or 0)


if __name__ == "__main__":
    sys.exit(main())
