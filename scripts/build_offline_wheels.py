"""Build `offline_wheels/`, the dataset that the notebooks install from: our wheel, the checkpoint, dataset-metadata.json, training data.

Flat, because the Kaggle client skips subfolders. The wheel is rebuilt only when the sources changed; its requirements are checked
against the dated list of versions in Kaggle's image (`scripts/kaggle_kit/kaggle_image_2026.toml`). Exit 1 when they do not fit, 2 for bad
input.
"""

import argparse
import sys
from pathlib import Path

from kaggle_kit.dataset import build
from kaggle_kit.paths import KAGGLE_IMAGE, OFFLINE_WHEELS

from hrm_submit.cli import exit_status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", metavar="F|none", help="weights (default: your own that are there, else the competition's)")
    parser.add_argument("--with-data", action="store_true", help="add the data that the pre-training notebook needs")
    parser.add_argument("--output", type=Path, default=OFFLINE_WHEELS, metavar="DIR")
    parser.add_argument("--image", type=Path, default=KAGGLE_IMAGE, metavar="TOML", help="versions in Kaggle's image")
    options = parser.parse_args()
    return exit_status("build_offline_wheels", lambda: build(options), OSError)


if __name__ == "__main__":
    sys.exit(main())
