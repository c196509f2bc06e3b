"""Compare this package's HRM number by number with a recording of the published implementation.

    python scripts/check_parity.py FIXTURE.npz

A fixture holds the published configuration and state, inputs, and what the published code made of them: logits, Q values and
losses of every ACT step in evaluation, and in training the losses, metrics, halting decisions and gradients of segments in a
row. One line per compared group; exit 0 if all agree, 1 if one does not, 2 if the file is no such recording.
"""

import argparse
import sys
from pathlib import Path

from lab.parity import compare

from hrm_submit.cli import exit_status


def run(fixture: Path) -> int:
    """Print a line a group; 1 where one does not agree. Raises CheckpointError."""
    failed = total = 0
    for row in compare(fixture):
        total, failed = total + 1, failed + (not row.passed)
        print(row)
    print(f"{fixture.name}: {total - failed} of {total} groups agree" + (", FAILED" if failed else ""))
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare HRM with a recording of the published implementation.")
    parser.add_argument("fixture", type=Path, help="recording (.npz)")
    args = parser.parse_args(argv)
    return exit_status("check_parity", lambda: run(args.fixture))


if __name__ == "__main__":
    sys.exit(main())
