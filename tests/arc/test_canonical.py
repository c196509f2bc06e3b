"""Canonical forms, held against orbits that are listed one by one."""

import hashlib
from itertools import permutations, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.arc.canonical import pair_hash, tasks_with_pairs_of
from hrm_submit.arc.task import Pair, Task, make_grid
from tests.arc.strategies import pairs


def symmetries(grid):
    """The 8 images of a grid, made of quarter turns and one mirror."""
    return [np.rot90(side, k) for side in (grid, np.fliplr(grid)) for k in range(4)]


def key(given_, wanted):
    return given_.shape, wanted.shape, tuple(given_.ravel().tolist()), tuple(wanted.ravel().tolist())


@settings(max_examples=60)
@given(pairs(), st.integers(0, 7), st.permutations(range(10)))
def test_neither_symmetries_nor_colours_change_the_hash(pair, k, colours):
    table = np.array(colours, dtype=np.uint8)
    moved = [table[symmetries(grid)[k]] for grid in (pair.input, pair.output)]
    assert pair_hash(*moved) == pair_hash(pair.input, pair.output)


def test_a_form_worked_out_by_hand():
    # lying flat, 5 3 | 3 reads 0 1 | 1 and mirrored 3 5 | 3 reads 0 1 | 0, which is less; upright it has more rows
    digest = hashlib.sha256(bytes([1, 2, 1, 1, 0, 1, 0])).hexdigest()
    assert pair_hash(make_grid([[5, 3]]), make_grid([[3]])) == digest
    assert pair_hash(make_grid([[3], [5]]), make_grid([[3]])) == digest


def test_hashes_are_equal_exactly_where_an_orbit_says_so():
    def all_grids(rows, columns):
        return [np.array(cells, dtype=np.uint8).reshape(rows, columns) for cells in product(range(3), repeat=rows * columns)]

    inputs = [grid for shape in ((1, 1), (1, 2), (2, 1), (2, 2)) for grid in all_grids(*shape)]
    outputs = [grid for shape in ((1, 1), (1, 2), (2, 1)) for grid in all_grids(*shape)]
    tables = [np.array(colours, dtype=np.uint8) for colours in permutations(range(3))]
    orbit_of = {}
    hash_of = {}
    for pair in product(inputs, outputs):
        hash_of[key(*pair)] = pair_hash(*pair)
        if key(*pair) not in orbit_of:
            orbit = {key(table[a], table[b]) for a, b in zip(*map(symmetries, pair), strict=True) for table in tables}
            orbit_of |= dict.fromkeys(orbit, frozenset(orbit))
    assert set(orbit_of) == set(hash_of)
    # as many hashes as orbits, and one hash an orbit: the two partitions are the same
    joint = {(orbit_of[pair], hash_of[pair]) for pair in hash_of}
    assert len(joint) == len(set(orbit_of.values())) == len(set(hash_of.values())) > 50


def test_a_task_is_known_by_a_single_demonstration_turned_or_recoloured():
    first, second = Pair(make_grid([[1, 2, 2]]), make_grid([[3]])), Pair(make_grid([[4, 4], [5, 6]]), make_grid([[4]]))
    grids = (make_grid([[0]]),)
    tasks = {"new": Task("new", (first,), grids), "known": Task("known", (first, second), grids)}
    turned = pair_hash(make_grid([[7, 8], [7, 9]]), make_grid([[7]]))
    assert tasks_with_pairs_of({turned}, tasks) == ["known"]
    assert tasks_with_pairs_of((), tasks) == []
