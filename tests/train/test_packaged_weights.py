"""No packaged weights have seen a pair that they may be scored on; each file is small and has its card."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from hrm_submit.model.weights import build, load_checkpoint
from tests.train.lab import hashes_of

FOLDER = Path(str(resources.files("hrm_submit"))) / "checkpoints"
SHIPPED = sorted(FOLDER.glob("*.safetensors"))
SETS = ("arc-agi-1-evaluation", "arc-agi-2-evaluation")
MAY_KNOW = {"arc-agi-2.safetensors": {"arc-agi-1-evaluation"}}
"""Evaluation sets that a checkpoint may know: ARC-AGI-2 training includes most of ARC-AGI-1 evaluation."""


@pytest.fixture(scope="module")
def barred() -> dict[str, str]:
    """Hash of every pair of both evaluation sets, demonstrations and answers, to its task."""
    return {key: f"{name}/{task}" for name in SETS for key, task in hashes_of(name).items()}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_checkpoint_has_seen_no_pair_that_it_is_scored_on_and_is_small(path: Path, barred: dict[str, str]) -> None:
    checkpoint = load_checkpoint(path, rows=True)
    meta, (model, embedding) = checkpoint.meta, build(checkpoint)
    assert len(meta.hashes) > 500, "hashes of all its training pairs"
    known = {barred[key].partition("/")[0] for key in meta.hashes if key in barred}
    assert known == MAY_KNOW.get(path.name, set()), "and a set that it may know is found, so the test can fail"
    assert path.stat().st_size < 10_000_000 and sum(p.stat().st_size for p in FOLDER.iterdir()) < 30_000_000
    assert sum(p.numel() for p in model.parameters()) > 100_000 and embedding.rows.shape[0] == 1
    assert checkpoint.rows is None, "rows of training tasks are of no use to solve"
    assert meta.steps > 1000 and meta.seconds > 60 and meta.preset and meta.data
    assert not any("evaluation" in name for name in meta.data)
    assert {"machine", "command", "tasks", "validation"} <= meta.card.keys()
