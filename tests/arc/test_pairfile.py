"""Files of many pairs: what is read, what one bad pair costs, and what is no such file."""

import numpy as np
import pytest
from kaggle_kit.dataset import write_pair_file

from hrm_submit.arc.pairfile import PARTS, load_pair_file
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
    ("changes", "fault"),
    [
        ({"inputs": None}, "has no inputs"),
        ({"shapes": np.ones((2, 3), dtype=np.uint8)}, "shapes should be whole numbers (pairs, 4), not uint8 (2, 3)"),
        ({"shapes": np.ones((0, 4), dtype=np.uint8)}, "shapes should be whole numbers (pairs, 4), not uint8 (0, 4)"),
        ({"shapes": np.array([[1, 2, 1, 1], [1, 3, -1, 4]])}, "has a side that is not within 1..30"),
        ({"shapes": np.array([[1, 2, 1, 1], [1, 3, 1, 31]]), "outputs": np.ones(32, dtype=int)}, "has a side that is not within 1..30"),
        ({"shapes": np.array([[1, 2, 1, 1], [1, 3, 1, 3]])}, "outputs should be 4 whole numbers in a row, by its shapes, not uint8 (5,)"),
        ({"inputs": np.array([1, 2, 4, 10, 4])}, "inputs have a cell that is not within 0..9"),
        ({"outputs": np.array([-1, 5, 5, 5, 5])}, "outputs have a cell that is not within 0..9"),
        ({"outputs": np.full(5, 0.5)}, "outputs should be 5 whole numbers in a row, by its shapes, not float64 (5,)"),
    ],
)
def test_a_fault_costs_its_task(path, changes, fault):
    with np.load(path) as archive:
        arrays = dict(archive) | {f"y/{part}": archive[f"x/{part}"] for part in PARTS} | {f"x/{k}": array for k, array in changes.items()}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    bad, good = load_pair_file(path)
    assert (bad.faults, bad.train) == ((f"{path}: task x: {fault}",), ())
    assert (good.id, len(good.train), good.faults) == ("y", 2, ())


def test_what_is_no_npz_is_refused_in_one_line_and_never_unpickled(path, tmp_path):
    whole = path.read_bytes()
    pickled, single = tmp_path / "pickled.npz", tmp_path / "single.npy"
    np.savez(pickled, **{"x/inputs": np.array([{}], dtype=object), "x/outputs": np.ones(1), "x/shapes": np.ones((1, 4), dtype=int)})
    np.save(single, np.ones(1))
    start = whole.index(b"x/inputs.npy") + len("x/inputs.npy")
    flipped = [whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :] for at in range(start + 20, start + 60)]  # past the zip's own header
    made = [file.read_bytes() for file in (pickled, single)]
    for content in (b"", b"not a zip", whole[: len(whole) // 2], *made, *flipped):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            load_pair_file(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
