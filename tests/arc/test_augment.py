"""Augmentations: hand-worked transforms, inverses, and samples without duplicates (against a brute-force listing)."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.arc.augment import Augmentation, dihedral, movable_colours, sample_augmentations
from hrm_submit.arc.task import Pair, Task, make_grid
from tests.arc.strategies import augmentations, grids, tasks

# [[1, 2, 3], [4, 5, 6]] under each transform, worked out by hand
BY_HAND = [
    [[1, 2, 3], [4, 5, 6]],
    [[3, 6], [2, 5], [1, 4]],
    [[6, 5, 4], [3, 2, 1]],
    [[4, 1], [5, 2], [6, 3]],
    [[3, 2, 1], [6, 5, 4]],
    [[4, 5, 6], [1, 2, 3]],
    [[1, 4], [2, 5], [3, 6]],
    [[6, 3], [5, 2], [4, 1]],
]


def content(task, augmentation):
    """What makes an augmented task: its pairs and its test inputs, whatever their order."""

    def key(grid):
        return augmentation.apply(grid).tobytes(), augmentation.apply(grid).shape

    return tuple(sorted((key(pair.input), key(pair.output)) for pair in task.train)), tuple(sorted(map(key, task.test)))


def task_of(train, test):
    return Task("t", tuple(Pair(make_grid(i), make_grid(o)) for i, o in train), tuple(make_grid(g) for g in test))


@pytest.mark.parametrize("transform", range(8))
def test_transforms_as_worked_by_hand(transform):
    assert dihedral(make_grid(BY_HAND[0]), transform).tolist() == BY_HAND[transform]
    new = (0, 2, 3, 1, 4, 5, 6, 7, 8, 9)
    assert Augmentation(transform, new).apply(make_grid(BY_HAND[0])).tolist() == [[new[c] for c in row] for row in BY_HAND[transform]]


@given(grids(), augmentations)
def test_invert_undoes_apply_and_apply_undoes_invert(grid, augmentation):
    assert np.array_equal(augmentation.invert(augmentation.apply(grid)), grid)
    assert np.array_equal(augmentation.apply(augmentation.invert(grid)), grid)


@pytest.mark.parametrize("arguments", [(8,), (-1,), (0, (0,) * 10), (0, tuple(range(9))), (0, tuple(range(1, 11)))])
def test_what_is_no_augmentation_is_refused(arguments):
    with pytest.raises(ValueError, match="is not an augmentation"):
        Augmentation(*arguments)


def test_movable_colours_by_rule():
    # the first output's 5 and 7 are not in its own input, wherever else 7 may be; 9 is nowhere
    task = task_of([([[1, 2]], [[5, 7]]), ([[7, 2]], [[7, 2]])], [[[7, 0]]])
    assert movable_colours(task, "permute") == (1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert movable_colours(task, "permute_input") == (1, 2, 3, 4, 6, 8, 9)
    assert movable_colours(task, "fixed") == ()


@settings(max_examples=30)
@given(tasks(6), st.integers(0, 40), st.sampled_from(["permute", "permute_input", "fixed"]), st.integers(0, 2**32 - 1))
def test_samples_are_different_legal_and_start_with_the_identity(task, n, rule, seed):
    found = sample_augmentations(task, n, np.random.default_rng(seed), colours=rule)
    assert len(found) <= n
    assert found[:1] == [Augmentation()][:n]
    assert len({content(task, augmentation) for augmentation in found}) == len(found)
    movable = movable_colours(task, rule)
    if rule == "permute_input":  # an input has one output, whatever the colours that it lacks become
        assert not any(set(movable) & set(np.setdiff1d(pair.output, pair.input).tolist()) for pair in task.train)
    for augmentation in found:
        assert all(augmentation.colours[c] == c for c in range(10) if c not in movable)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ([([[0, 1]], [[1, 0]])], [[[1, 1]]]),
        ([([[1]], [[2]])], [[[1]]]),
        ([([[0]], [[0]])], [[[0]]]),
        # the two pairs are mirror images of each other, so mirrored tasks only change the order of pairs
        ([([[1, 0]], [[0]]), ([[0, 1]], [[0]])], [[[0]]]),
    ],
)
def test_where_few_augmentations_exist_all_are_found(train, test):
    task = task_of(train, test)
    used = sorted({int(c) for grid in task.grids() for c in grid.ravel()} - {0})
    every = set()
    for transform in range(8):
        for images in itertools.permutations(range(1, 10), len(used)):
            table = list(range(10))
            for old, new in zip(used, images, strict=True):
                table[old] = new
            rest = [c for c in range(1, 10) if c not in images]
            for old in [c for c in range(1, 10) if c not in used]:
                table[old] = rest.pop()
            every.add(content(task, Augmentation(transform, tuple(table))))
    found = sample_augmentations(task, 1000, np.random.default_rng(0))
    assert {content(task, augmentation) for augmentation in found} == every
    assert len(found) == len(every)


def test_a_task_without_symmetry_gets_as_many_as_asked():
    rng = np.random.default_rng(1)
    task = task_of([(rng.integers(0, 10, (5, 7)), rng.integers(0, 10, (4, 4)))], [rng.integers(0, 10, (6, 6))])
    found = sample_augmentations(task, 1000, rng)
    assert len(found) == 1000
    assert {augmentation.dihedral for augmentation in found} == set(range(8))
    # colour 1 goes to each of 1..9 about as often: 111 of 1000 expected, 6 standard deviations are 60
    counts = np.bincount([augmentation.colours[1] for augmentation in found], minlength=10)
    assert counts[0] == 0
    assert abs(counts[1:] - 1000 / 9).max() < 60
