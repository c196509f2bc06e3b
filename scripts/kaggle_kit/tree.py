"""A folder tree like `/kaggle`: the competition's files and our dataset below `input`, an empty `working`. Never a solution."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.task import Task

from .competition import Competition

DATASET = "hrm-submit-wheels"
OWNER = "someone"
Layout = Literal["new", "old"]


@dataclass(frozen=True)
class KaggleTree:
    """`input` and `working` as the notebook sees them, and the challenges file that it will answer."""

    input: Path
    working: Path
    challenges: Path


def build_tree(
    folder: Path, competition: Competition, tasks: Mapping[str, Task], dataset: Sequence[Path], layout: Layout = "new"
) -> KaggleTree:
    """Lay out `tasks` both as test and as evaluation tasks, and the files of our dataset."""
    data = folder / "input" / (f"competitions/{competition.slug}" if layout == "new" else competition.slug)
    ours = folder / "input" / (f"datasets/{OWNER}/{DATASET}" if layout == "new" else DATASET)
    working = folder / "working"
    for path in (data, ours, working):
        path.mkdir(parents=True)
    for role in ("test_challenges", "evaluation_challenges"):
        write_challenges(data / competition.files[role], tasks)
    sample = {name: [{"attempt_1": [[0, 0], [0, 0]], "attempt_2": [[0, 0], [0, 0]]} for _ in task.test] for name, task in tasks.items()}
    (data / competition.files["sample_submission"]).write_text(json.dumps(sample), encoding="utf-8")
    for path in dataset:
        shutil.copyfile(path, ours / path.name)
    return KaggleTree(folder / "input", working, data / competition.files["test_challenges"])
