"""The folder `offline_wheels/`, which becomes the dataset: our wheel, weights, metadata and, for pre-training, data."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from hrm_submit.core.errors import ConfigError

from .competition import load_competition
from .places import ROOT, own_weights
from .training import place_training_data
from .tree import DATASET
from .wheels import build_wheel, image_faults


def build(options: argparse.Namespace) -> int:
    """Fill the folder and list it; 1 where something in it would not do on Kaggle. Raises UserError, OSError."""
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel(folder)
    if options.checkpoint is not None:
        place_checkpoint(options.checkpoint, folder)
    elif not own_weights(folder):
        place_checkpoint(str(ROOT / load_competition(options.competition).checkpoint), folder)
    if options.with_data:
        place_training_data(folder)
    write_metadata(folder)
    faults = image_faults(wheel, options.image)
    faults += [f"{path.name}/: a subfolder, which the Kaggle client would skip" for path in folder.iterdir() if path.is_dir()]
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size / 2**20:9.2f} MiB  {path.name}")
    for fault in faults:
        print(f"build_offline_wheels: {fault}", file=sys.stderr)
    return 1 if faults else 0


def place_checkpoint(source: str, folder: Path) -> None:
    """Make `source` (a .safetensors file or `"none"`) the only weights in `folder`."""
    path = Path(source)
    if source != "none" and not path.is_file():
        raise ConfigError(f"{source}: no checkpoint there")
    for old in folder.glob("*.safetensors"):
        if old.name != path.name:
            old.unlink()
    if source != "none" and path.resolve() != (folder / path.name).resolve():
        shutil.copyfile(path, folder / path.name)


def write_metadata(folder: Path) -> None:
    """Name the dataset after the owner in kernel-metadata.json; a file that is there stays as it is."""
    path = folder / "dataset-metadata.json"
    if not path.is_file():
        owner = json.loads((ROOT / "kernel-metadata.json").read_text(encoding="utf-8"))["id"].split("/")[0]
        metadata = {"id": f"{owner}/{DATASET}", "title": DATASET, "licenses": [{"name": "other"}]}
        path.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
