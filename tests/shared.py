"""Files that tests write, and folders that several test processes make once and share."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from hrm_submit.config.schema import ModelConfig
from hrm_submit.model.weights import CheckpointMeta, build, save_checkpoint, snapshot

RECORDED = Path(__file__).parent / "fixtures" / "run-v1"
"""Four ARC-AGI-1 evaluation tasks of a run that was killed while it worked on the third. Its configuration names keys that are no more,
its predictions do not name their attempt; three candidates of each are kept."""


def write(path: Path, content: Any) -> Path:
    """Write bytes or text as they are and anything else as JSON, into folders that it makes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content)).encode())
    return path


def write_weights(path: Path, model: ModelConfig, seed: int = 0, **meta: Any) -> Path:
    """Write a checkpoint of a model of random weights."""
    save_checkpoint(path, snapshot(*build(model, seed=seed), CheckpointMeta(**meta)))
    return path


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, which the first test process to ask fills with `make` while the others wait. Nobody may change it later."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, made = root / name, root / f"{name}.made"
    with FileLock(root / f"{name}.lock"):
        if not made.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            made.touch()
    return folder
