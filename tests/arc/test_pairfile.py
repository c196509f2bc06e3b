"""Files of many pairs: what is read, what one bad pair costs, and what is no such file."""

import numpy as np
import pytest
from kaggle_kit.dataset import write_pair_file

from hrm_submit.arc.pairfile import load_pair_file
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.core.errors import DataError

PAIRS = (Pair(make_grid([[1, 2]]), make_grid([[3]])), Pair(make_grid([[4, 0, 4]]), make_grid([[5, 5, 5, 5]])))


@pytest.fixture
def path(tmp_path):
    write_pair_file(tmp_path / "sample.npz", [TrainingTask(Task("set/x", PAIRS, ()), "x")])
    return tmp_path / "sample.npz"


def test_reading_undoes_writing(path):
    (entry,) = load_pair_file(path)
    assert (entry.id, entry.generated, entry.faults) == ("x", True, ())
    assert [(p.input.tolist(), p.output.tolist()) for p in entry.train] == [(p.input.tolist(), p.output.tolist()) for p in PAIRS]
    grids = [grid for pair in entry.train for grid in (pair.input, pair.output)]
    assert all(grid.dtype == np.uint8 and not grid.flags.writeable and grid.flags.c_contiguous for grid in grids)


@pytest.mark.parametrize(
    ("changes", "fault", "left"),
    [
        ({"inputs": None}, "has no inputs", []),
        ({"shapes": np.ones((2, 3), dtype=np.uint8)}, "shapes should be whole numbers (pairs, 4), not uint8 (2, 3)", []),
        ({"shapes": np.ones((0, 4), dtype=np.uint8)}, "shapes should be whole numbers (pairs, 4), not uint8 (0, 4)", []),
        ({"shapes": np.array([[1, 2, 1, 1], [1, 3, -1, 4]])}, "has a side that no grid has", []),
        ({"shapes": np.array([[1, 2, 1, 1], [1, 3, 1, 31]]), "outputs": np.ones(32, dtype=int)}, "pair 1: has a side above 30", [0]),
        (
            {"shapes": np.array([[1, 2, 1, 1], [1, 3, 1, 3]])},
            "outputs should be 4 whole numbers in a row, by its shapes, not uint8 (5,)",
            [],
        ),
        ({"inputs": np.array([1, 2, 4, 10, 4])}, "pair 1: has a cell that is not within 0..9", [0]),
        ({"outputs": np.array([-1, 5, 5, 5, 5])}, "pair 0: has a cell that is not within 0..9", [1]),
        ({"outputs": np.full(5, 0.5)}, "outputs should be 5 whole numbers in a row, by its shapes, not float64 (5,)", []),
    ],
)
def test_a_fault_costs_its_pair_or_its_task(path, changes, fault, left):
    with np.load(path) as archive:
        arrays = dict(archive) | {f"x/{part}": array for part, array in changes.items()}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    (entry,) = load_pair_file(path)
    (told,) = entry.faults
    assert told.line.startswith(f"{path}: task x: {fault}")
    assert [pair.input.shape for pair in entry.train] == [PAIRS[k].input.shape for k in left]


def test_what_is_no_npz_is_refused_in_one_line_and_never_unpickled(path, tmp_path):
    whole = path.read_bytes()
    pickled, single, other = tmp_path / "pickled.npz", tmp_path / "single.npy", tmp_path / "other.npz"
    np.savez(pickled, **{"x/inputs": np.array([{}], dtype=object), "x/outputs": np.ones(1), "x/shapes": np.ones((1, 4), dtype=int)})
    np.save(single, np.ones(1))
    np.savez(other, **{"x/other": np.ones(1)})
    start = whole.index(b"x/inputs.npy") + len("x/inputs.npy")
    flipped = [whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :] for at in range(start + 20, start + 60)]  # past the zip's own header
    made = [file.read_bytes() for file in (pickled, single, other)]
    for content in (b"", b"not a zip", whole[: len(whole) // 2], *made, *flipped):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            load_pair_file(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
