"""Build `offline_wheels/`, the dataset that the notebooks install from: our wheel, the checkpoint, dataset-metadata.json, training data.

Flat, because the Kaggle client skips subfolders. The wheel is rebuilt only when the sources changed; its requirements are checked
against the dated list of versions in Kaggle's image (`scripts/kaggle_kit/kaggle_image_2026.toml`). Exit 1 when they do not fit, 2 for bad
input.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from kaggle_kit.places import BOX, KAGGLE_IMAGE, OFFLINE_WHEELS, ROOT
from kaggle_kit.training import place_training_data
from kaggle_kit.tree import DATASET
from kaggle_kit.wheels import build_wheel, image_faults

from hrm_submit.core.errors import ConfigError, UserError


def place_checkpoint(source: str, folder: Path) -> None:
    """Make `source` (a .safetensors file, a folder of shards, or `"none"`) the only weights in `folder`."""
    path = Path(source)
    parts = [] if source == "none" else [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if source != "none" and not parts:
        raise ConfigError(f"{source}: no checkpoint there")
    wanted = {part.name: part for part in parts}
    for old in folder.glob("*.safetensors"):
        if old.name not in wanted:
            old.unlink()
    for name, part in wanted.items():
        if part.resolve() != (folder / name).resolve():
            shutil.copyfile(part, folder / name)


def write_metadata(folder: Path) -> None:
    """Name the dataset after the owner in kernel-metadata.json; a file that is there stays as it is."""
    path = folder / "dataset-metadata.json"
    if not path.is_file():
        owner = json.loads((ROOT / "kernel-metadata.json").read_text(encoding="utf-8"))["id"].split("/")[0]
        metadata = {"id": f"{owner}/{DATASET}", "title": DATASET, "licenses": [{"name": "other"}]}
        path.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--checkpoint",
        metavar="F|none",
        help="weights to ship: a file, a folder of shards, or none (default: those that are there, else the package's own)",
    )
    parser.add_argument("--with-data", action="store_true", help="bring along what the pre-training notebook learns from")
    parser.add_argument("--output", type=Path, default=OFFLINE_WHEELS, metavar="DIR")
    parser.add_argument("--image", type=Path, default=KAGGLE_IMAGE, metavar="TOML", help="versions in Kaggle's image")
    options = parser.parse_args()
    folder: Path = options.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
        wheel = build_wheel(folder)
        if options.checkpoint is not None:
            place_checkpoint(options.checkpoint, folder)
        elif not any(folder.glob("*.safetensors")) and any(BOX.glob("*.safetensors")):
            place_checkpoint(str(BOX), folder)
        if options.with_data:
            place_training_data(folder)
        write_metadata(folder)
        faults = image_faults(wheel, options.image)
    except (UserError, OSError) as error:
        print(f"build_offline_wheels: {error}", file=sys.stderr)
        return 2
    faults += [f"{path.name}/: a subfolder, which the Kaggle client would skip" for path in folder.iterdir() if path.is_dir()]
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size / 2**20:9.2f} MiB  {path.name}")
    for fault in faults:
        print(f"build_offline_wheels: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
