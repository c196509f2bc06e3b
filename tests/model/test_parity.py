"""The model against recordings of the published implementation (data/*.npz; in float32 on a CPU, attention written out): one with the
published loss and positions, one with the other ones; rows narrower and wider than the hidden size."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from check_parity import main
from lab.parity import compare

PREFIX = "_orig_mod.model.inner."

DATA = Path(__file__).parent / "data"
LARGE = Path(os.environ.get("HRM_PARITY_FIXTURE", Path(__file__).parents[3] / "shared/parity/hrm_reference_small.npz"))


@pytest.mark.parametrize("attention", ["sdpa", "math"])
@pytest.mark.parametrize("name", ["recorded_rope", "recorded_learned"])
def test_agrees_with_the_published_implementation(name: str, attention: str) -> None:
    rows = list(compare(DATA / f"{name}.npz", attention))
    assert [str(row) for row in rows if not row.passed] == []
    groups = {row.group for row in rows}
    assert {"eval/step1/logits", "train/seg1/steps", "train/seg1/metric/q_continue_loss", "train/seg1/grad/puzzle_emb_rows"} <= groups
    assert "train/seg1/grad/H_level.blocks.0.qkv" in groups


@pytest.mark.parametrize("path", [DATA / "recorded_learned.npz", *[LARGE] * LARGE.is_file()], ids=lambda path: path.stem)
def test_agreement_exits_with_0_and_counts_the_groups(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of a larger recording, where there is one."""
    assert main([str(path)]) == 0
    assert re.search(r": (\d+) of \1 groups agree$", capsys.readouterr().out.strip())


@pytest.mark.parametrize(
    "key",
    [
        *("eval/step1/logits", "eval/step0/loss", "train/seg0/steps", "train/seg1/halted", "train/seg1/metric/accuracy"),
        *("train/seg1/grad/puzzle_emb_rows", f"state/{PREFIX}L_level.layers.0.mlp.down_proj.weight"),
    ],
)
def test_a_changed_number_fails(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = changed(lambda arrays: arrays.update({key: ~arrays[key] if arrays[key].dtype == bool else arrays[key] * 1.01 + 0.01}))
    other(tmp_path / "changed.npz")
    assert main([str(tmp_path / "changed.npz")]) == 1
    failed = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert failed == [key] or (key.startswith("state/") and len(failed) > 10)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        arrays = dict(np.load(DATA / "recorded_rope.npz"))
        change(arrays)
        np.savez(path, **arrays)

    return apply


NO_RECORDINGS: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: None,
    "text": lambda path: path.write_text("hello"),
    "truncated": lambda path: path.write_bytes((DATA / "recorded_rope.npz").read_bytes()[:20000]),
    "no config": changed(lambda arrays: arrays.pop("config")),
    "unknown tensor": changed(lambda arrays: arrays.update({f"state/{PREFIX}extra.weight": np.zeros(3)})),
    "nothing recorded": changed(lambda arrays: [arrays.pop(k) for k in [*arrays] if k.startswith(("eval/", "train/"))]),
}


@pytest.mark.parametrize("fault", NO_RECORDINGS)
def test_what_is_no_recording_is_one_line(fault: str, tmp_path: Path, refused: Any) -> None:
    NO_RECORDINGS[fault](tmp_path / "f.npz")
    assert refused(main, [str(tmp_path / "f.npz")]).startswith(f"check_parity: {tmp_path / 'f.npz'}")
