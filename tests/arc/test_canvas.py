"""The canvas: against the published layout written out in numpy, its inverse, and a brute-force decoder."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hrm_submit.arc.augment import Augmentation, augmentation_arrays
from hrm_submit.arc.canvas import EOS, PackedPairs, decode, encode, encode_inputs, position_ids, sample_offsets
from hrm_submit.arc.task import MAX_SIDE, Pair, make_grid
from tests.arc.strategies import augmentations, grids, pairs, plain_canvas

quick = settings(max_examples=60)
WIDE = Pair(make_grid(np.zeros((2, 3))), make_grid([[1]]))


def test_canvas_as_drawn_by_hand():
    tokens = encode_inputs([make_grid([[0, 9], [3, 1]])], [Augmentation()], 4)
    assert tokens.reshape(4, 4).tolist() == [[2, 11, 1, 0], [5, 3, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    packed = PackedPairs.from_pairs([Pair(make_grid([[0, 9], [3, 1]]), WIDE.output)])
    moved, _ = encode(packed, np.array([0]), *augmentation_arrays([Augmentation()]), 4, np.array([[1, 2]]))
    assert moved.reshape(4, 4).tolist() == [[0, 0, 0, 0], [0, 0, 2, 11], [0, 0, 5, 3], [0, 0, 1, 1]]
    turned = encode_inputs([make_grid([[1, 2, 3]])], [Augmentation(1)], 3)
    assert turned.reshape(3, 3).tolist() == [[5, 1, 0], [4, 1, 0], [3, 1, 0]]


@quick
@given(st.lists(pairs(20), min_size=1, max_size=5), st.integers(20, 30), st.integers(0, 2**32 - 1))
def test_each_example_of_a_batch_is_drawn_from_its_own_pair(given_pairs, side, seed):
    rng = np.random.default_rng(seed)
    packed = PackedPairs.from_pairs(given_pairs)
    index = rng.integers(0, len(packed), 20)
    views = [Augmentation(int(d), tuple(rng.permutation(10).tolist())) for d in rng.integers(0, 8, 20)]
    transforms, colours = augmentation_arrays(views)
    offsets = sample_offsets(packed, index, transforms, side, rng)
    inputs, labels = encode(packed, index, transforms, colours, side, offsets)
    assert inputs.dtype == labels.dtype == np.uint8
    for b, view in enumerate(views):
        pair, offset = given_pairs[index[b]], tuple(offsets[b])
        assert np.array_equal(inputs[b].reshape(side, side), plain_canvas(view.apply(pair.input), offset, side))
        assert np.array_equal(labels[b].reshape(side, side), plain_canvas(view.apply(pair.output), offset, side))


@quick
@given(st.data(), grids(), augmentations)
def test_decode_undoes_encode(data, grid, augmentation):
    side = data.draw(st.integers(max(grid.shape), MAX_SIDE))
    (decoded,) = decode(encode_inputs([grid], [augmentation], side), side)
    assert np.array_equal(augmentation.invert(decoded), grid)


@quick
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_decode_finds_the_largest_anchored_rectangle(side, seed):
    rng = np.random.default_rng(seed)
    tokens = rng.choice([0, 1, 2, 5, 11, 12], (1, side * side), p=[0.05, 0.05, 0.3, 0.3, 0.25, 0.05])
    sheet, best = tokens.reshape(side, side), (0, 0, 0)
    for rows in range(1, side + 1):
        for columns in range(1, side + 1):
            cells = sheet[:rows, :columns]
            if ((cells >= 2) & (cells <= 11)).all():
                best = max(best, (rows * columns, rows, columns))
    (decoded,) = decode(tokens, side)
    wanted = sheet[: best[1], : best[2]] - 2
    assert decoded is None if best[0] == 0 else np.array_equal(decoded, wanted)


@quick
@given(grids(), st.data())
def test_crop_and_full_canvas_give_each_token_the_same_position(grid, data):
    side = data.draw(st.integers(max(grid.shape), MAX_SIDE))
    cropped = encode_inputs([grid], [Augmentation()], side)[0]
    full = encode_inputs([grid], [Augmentation()], MAX_SIDE)[0]
    assert position_ids(MAX_SIDE).tolist() == list(range(MAX_SIDE**2))
    assert np.array_equal(full[position_ids(side)], cropped)
    left_out = np.setdiff1d(position_ids(MAX_SIDE), position_ids(side))
    assert (full[left_out] <= EOS).all()


@quick
@given(st.lists(pairs(12), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_sampled_offsets_fit_and_reach_every_place(given_pairs, seed):
    rng = np.random.default_rng(seed)
    packed = PackedPairs.from_pairs(given_pairs)
    assume(packed.shapes.max() >= 2)
    index = rng.integers(0, len(packed), 400)
    transforms = rng.integers(0, 8, 400)
    side = int(packed.shapes.max()) + 1
    offsets = sample_offsets(packed, index, transforms, side, rng)
    largest = np.zeros(2, dtype=int)
    for i, transform, offset in zip(index, transforms, offsets, strict=True):
        view = Augmentation(int(transform))
        extents = [view.apply(grid).shape for grid in (given_pairs[i].input, given_pairs[i].output)]
        room = side - np.max(extents, axis=0)
        assert (offset >= 0).all()
        assert (offset <= room).all()
        largest = np.maximum(largest, offset == room)
    assert largest.all()


@pytest.mark.parametrize(
    "change",
    [
        {"index": [1]},
        {"index": [-1]},
        {"dihedral": [8]},
        {"colours": [[10] * 10]},
        {"offsets": [[-1, 0]]},
        {"offsets": [[0]]},
        {"offsets": [[2, 0]]},
        {"offsets": [[1, 1]], "dihedral": [1]},
        {"side": 2},
        {"side": 31},
    ],
)
def test_arguments_out_of_range_never_reach_compiled_code(change):
    arguments = {"index": [0], "dihedral": [0], "colours": [list(range(10))], "offsets": [[1, 0]]} | change
    side = arguments.pop("side", 3)
    with pytest.raises(ValueError, match=r"out of range|do not go with|does not fit"):
        encode(PackedPairs.from_pairs([WIDE]), **{name: np.array(value) for name, value in arguments.items()}, side=side)


def test_offsets_are_refused_where_there_is_no_room_and_tokens_that_are_no_canvas():
    with pytest.raises(ValueError, match="high <= 0"):
        sample_offsets(PackedPairs.from_pairs([WIDE]), np.array([0]), np.array([1]), 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="reshape"):
        decode(np.zeros((1, 8), dtype=np.uint8), 3)
