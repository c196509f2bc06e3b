"""Scores of views: what they show, parts of them, and what a file keeps of them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.task import make_grid
from hrm_submit.core.errors import DataError
from hrm_submit.predict.raw import LEAST, RawVote, load_raw, save_raw
from hrm_submit.predict.scores import ViewScores, join
from tests.predict.lab import SURE, anything, showing

TURNED = Augmentation(1, (0, 3, 2, 1, 4, 5, 6, 7, 8, 9))


def test_confidence_is_the_mean_over_the_cells_of_the_grid_alone() -> None:
    scores = showing([make_grid([[5, 6]])], [Augmentation(6)], 3)
    cells = scores.log_probs.copy()
    cells[0, 3] += 0.04  # the transposed grid takes the cells (0, 0) and (1, 0) of the canvas
    cells[0, 8] += 0.5
    (prediction,) = ViewScores(scores.views, 3, cells).predictions()
    assert prediction is not None and prediction.grid.tolist() == [[5, 6]]
    assert showing([make_grid([[4]]), None], [Augmentation()] * 2, 3).predictions()[1] is None, "a canvas of PAD shows no grid"
    assert prediction.score == pytest.approx(np.log(SURE) + 0.02, abs=1e-5)


def test_parts_join_to_the_whole() -> None:
    views = [Augmentation(d) for d in range(5)]
    whole = anything(views, 3, np.random.default_rng(0))
    again = join([whole.some(slice(0, 2)), whole.some(slice(2, 5))])
    assert again.views == whole.views and len(again) == 5
    np.testing.assert_array_equal(again.log_probs, whole.log_probs)
    with pytest.raises(ValueError):
        join([whole, anything(views, 4, np.random.default_rng(0))])


def raw(task: str = "t", restart: int = 0) -> RawVote:
    views = [Augmentation(), TURNED, Augmentation(7), Augmentation(5)]
    return RawVote(task, restart, np.array([0, 1, 0, 1]), anything(views, 4, np.random.default_rng(1)))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(), min_size=1, max_size=20), st.integers(0, 3))
@example("ends in\0", 0)
@example("\ud800", 1)
def test_a_file_gives_back_what_went_in(tmp_path: Path, task: str, restart: int) -> None:
    before = raw(task, restart)
    before.scores.log_probs[0, 0, 0] = -1e9  # float16 cannot hold it
    path = save_raw(tmp_path / "raw", before)
    after = load_raw(path)
    assert path.parent == tmp_path / "raw", "whatever the task is called"
    assert (after.task, after.restart, after.output.tolist()) == (task, restart, [0, 1, 0, 1])
    assert (after.scores.views, after.scores.side) == (before.scores.views, 4)
    np.testing.assert_allclose(after.scores.log_probs, np.maximum(before.scores.log_probs, LEAST), rtol=1e-3)


def test_no_two_trainings_share_a_file(tmp_path: Path) -> None:
    trainings = [("a", 0), ("a", 1), ("b", 0), ("a.restart1", 0), ("../a", 0), ("ä", 0)]
    paths = {save_raw(tmp_path, raw(task, restart)) for task, restart in trainings}
    assert len(paths) == 6 and {p.parent for p in paths} == {tmp_path}
    assert {"a.npz", "a.restart1.npz", "b.npz"} < {p.name for p in paths}
    assert {(load_raw(p).task, load_raw(p).restart) for p in paths} == set(trainings)


def rewritten(path: Path, **changed: object) -> Path:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changed
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    "changed",
    [
        *({"format": 1}, {"format": 3}, {"side": None}, {"side": "wide"}, {"task": np.array([{}], dtype=object)}),
        *({"log_probs": np.zeros((4, 15, 12))}, {"output": np.zeros(3)}),
        {"log_probs": np.zeros((0, 16, 12)), "output": np.zeros(0)},
        {"dihedral": np.array([0, 9, 7, 5])},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_a_damaged_file_is_named(tmp_path: Path, changed: dict[str, object]) -> None:
    path = rewritten(save_raw(tmp_path, raw()), **changed)
    with pytest.raises(DataError) as caught:
        load_raw(path)
    assert str(caught.value).startswith(f"{path}: no raw predictions: ") and "\n" not in str(caught.value)


def test_half_a_file_and_no_file_are_named(tmp_path: Path) -> None:
    path = save_raw(tmp_path, raw())
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"something else", whole[:100] + b"\0" * 50 + whole[150:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=str(path)):
            load_raw(path)
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        load_raw(path)
