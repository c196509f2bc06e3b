"""Draw the pictures of docs/: how data flows, views, canvas and votes.

python scripts/docs_pictures.py docs/
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.docs.pictures import draw

from hrm_submit.cli import exit_status


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(argv)
    return exit_status("docs_pictures", lambda: 0 if draw(args.folder) else 1, OSError)


if __name__ == "__main__":
    sys.exit(main())
