"""Grids made of all views' cells: by hand, against every possible grid, and how they rank and pool."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.arc.augment import IDENTITY, Augmentation
from hrm_submit.arc.task import make_grid
from hrm_submit.predict.experts import likelihoods
from hrm_submit.predict.vote import Candidate, pool
from tests.predict.lab import anything, showing

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from kit.ballot import Ballot
from kit.composite import MOST_SIZES, colours_of_cells, with_composites

WRONG = ([[2, 1, 1]], [[1, 2, 1]], [[1, 1, 2]])
"""Each is wrong in another cell than [[1, 1, 1]]."""
TURNS = [IDENTITY, Augmentation(1), Augmentation(6, (0, 9, 2, 3, 4, 5, 6, 7, 8, 1))]


def test_three_views_that_each_err_once_make_the_right_grid() -> None:
    ballot = Ballot([showing([make_grid(g) for g in WRONG], TURNS, 4)])
    assert not any(c.grid.tolist() == [[1, 1, 1]] for c in ballot.experts)
    best = ballot.experts_made[0]
    assert (best.grid.tolist(), best.votes) == ([[1, 1, 1]], 0)
    # of nine (view, cell) pairs six are of probability .9, three of (1 - .9) / 11
    assert best.score == pytest.approx((6 * np.log(0.9) + 3 * np.log(0.1 / 11)) / 9, rel=1e-4)
    assert sum(c.belief or 0.0 for c in ballot.experts_made) == pytest.approx(3.0), "as many votes as views"


def test_what_a_view_gave_is_not_made_again() -> None:
    ballot = Ballot([showing([make_grid(g) for g in ([[1, 1, 1]], *WRONG[:2])], TURNS, 4)])
    best = ballot.experts_made[0]
    assert (best.grid.tolist(), best.votes) == ([[1, 1, 1]], 1)
    assert len(ballot.experts_made) == 3


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.integers(0, 10**6))
def test_none_of_its_size_is_likelier(turns: list[int], seed: int) -> None:
    """All hundred grids of one row and two columns, under views with all their borders on a canvas of side 3."""
    rng = np.random.default_rng(seed)
    views = [Augmentation(d, tuple(rng.permutation(10).tolist())) for d in turns]
    scores = anything(views, 3, rng)
    every = [make_grid([[a, b]]) for a, b in product(range(10), repeat=2)]
    sums = likelihoods(scores, every).log_probs.sum(axis=0)
    made = [c for c in with_composites([Candidate(every[0], 1, -1.0)], scores) if c.votes == 0 or c.grid is every[0]]
    assert made[-1].grid.tolist() == every[int(sums.argmax())].tolist()


def test_only_the_most_voted_sizes_get_one_and_only_where_a_canvas_holds_it() -> None:
    scores = anything([IDENTITY] * 3, 6, np.random.default_rng(0))
    given_grids = [Candidate(make_grid([[0] * width]), 9 - width, -1.0) for width in range(1, 7)]
    made = with_composites(given_grids, scores)[len(given_grids) :]
    assert [c.grid.shape for c in made] == [(1, width) for width in range(1, MOST_SIZES + 1)]
    too_large = [Candidate(make_grid([[0] * 7]), 1, -1.0)]
    assert with_composites(too_large, scores) == too_large
    assert colours_of_cells(scores, (1, 7)).shape == (0, 1, 7, 10)


def test_made_grids_of_two_trainings_are_pooled_without_votes() -> None:
    one = Candidate(make_grid([[1]]), 0, -0.5, belief=2.0)
    other = Candidate(make_grid([[1]]), 0, -1.5, belief=1.0)
    (pooled,) = pool([[one], [other]])
    assert (pooled.votes, pooled.score, pooled.weight) == (0, -1.0, 3.0)
