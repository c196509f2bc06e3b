"""The composite of all views: by hand, against a loop over views and cells, and how it ranks and pools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.task import make_grid
from hrm_submit.predict.rank import SHARE, colours_of_cells, rank, with_composite
from hrm_submit.predict.scores import ViewScores, join
from hrm_submit.predict.vote import Candidate
from tests.arc.strategies import augmentations
from tests.predict.lab import anything, showing

RIGHT = [[1] * 12]
TURNS = [Augmentation(k % 8, (0, 9, 2, 3, 4, 5, 6, 7, 8, 1) if k % 3 else tuple(range(10))) for k in range(12)]
"""Views of every dihedral transform, most of which exchange 1 and 9."""


def erring(cell: int) -> list[list[int]]:
    """The right grid but for one cell."""
    return [[2 if k == cell else 1 for k in range(12)]]


def made_of(*grids: list[list[int]], sure: float = 0.9) -> ViewScores:
    return showing([make_grid(g) for g in grids], TURNS[: len(grids)], 13, sure)


def shown(candidates: list[Candidate]) -> list[tuple[list[list[int]], int]]:
    return [(c.grid.tolist(), c.votes) for c in candidates]


def test_views_that_each_err_once_make_the_right_grid() -> None:
    """Twelve views, of which each is wrong in another cell: a twelfth of the votes each, and a tenth for what they make together."""
    best, *others = rank(made_of(*(erring(k) for k in range(12))), "composite")
    assert (best.grid.tolist(), best.votes, best.weight) == (RIGHT, 0, pytest.approx(1.2))
    # Of 144 (view, cell) pairs twelve are wrong: .9 is what a view gives to what it shows, (1 - .9) / 11 what it gives to another token.
    assert best.score == pytest.approx((132 * np.log(0.9) + 12 * np.log(0.1 / 11)) / 144, rel=1e-4)
    assert [c.weight for c in others] == [1.0] * 12


def test_its_share_decides_between_almost_equals_and_not_against_a_majority() -> None:
    a, b, c = erring(0), erring(1), RIGHT
    torn = made_of(a, a, a, a, b, b, b, b, c, c)
    assert shown(rank(torn, "counts"))[2] == (c, 2)
    assert shown(rank(torn, "composite"))[2] == (c, 2), "two votes and one of ten are fewer than four"
    near = made_of(a, a, a, b, b, b, b, c, c, c, c)
    assert shown(rank(near, "counts"))[0][1] == 4 and shown(rank(near, "composite"))[0] == (c, 4), "1.1 of eleven votes more"
    (clear, *_) = rank(made_of(a, a, a, a, a, b), "composite")
    assert (clear.grid.tolist(), clear.weight) == (a, pytest.approx(5.6)), "what is made is the first already"


def test_it_has_the_size_of_the_first_and_needs_a_canvas_that_holds_it() -> None:
    small, large = make_grid([[1, 2]]), make_grid([[1] * 5])
    scores = showing([small, small, large], [Augmentation()] * 3, 6)
    assert [c.grid.shape for c in with_composite(rank(scores, "counts"), scores)] == [(1, 2), (1, 5)]
    too_large = [Candidate(make_grid([[0] * 7]), 1, -1.0)]
    assert with_composite(too_large, scores) == too_large
    assert colours_of_cells(scores, (1, 7)).shape == (0, 1, 7, 10)
    assert with_composite([], scores) == []


@settings(max_examples=40)
@given(st.lists(augmentations, min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_as_a_loop_over_views_and_cells_says(views: list[Augmentation], rows: int, columns: int, seed: int) -> None:
    scores = anything(views, 5, np.random.default_rng(seed))
    first = make_grid(np.full((rows, columns), 7))
    best = np.zeros((rows, columns), dtype=int)
    for r in range(rows):
        for c in range(columns):
            sums = [0.0] * 10
            for k, view in enumerate(views):
                mark = np.zeros((rows, columns), dtype=np.uint8)
                mark[r, c] = 1
                y, x = (int(i[0]) for i in np.nonzero(Augmentation(view.dihedral).apply(make_grid(mark))))
                for colour in range(10):
                    token = 2 + view.colours[colour]
                    sums[colour] += float(np.exp(scores.log_probs[k, 5 * y + x, token]))
            best[r, c] = int(np.argmax(sums))
    candidates = with_composite([Candidate(first, 10, -1.0)], scores)
    assert max(candidates, key=lambda c: c.weight - c.votes).grid.tolist() == best.tolist()
    assert sum(c.weight - c.votes for c in candidates) == pytest.approx(10 * SHARE)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_order_of_views_changes_nothing(seed: int, random: object) -> None:
    rng = np.random.default_rng(seed)
    scores = anything([Augmentation(int(d)) for d in rng.integers(0, 8, 6)], 2, rng)
    parts = [scores.some(slice(int(k), int(k) + 1)) for k in rng.permutation(6)]
    once, again = rank(scores, "composite"), rank(join(parts), "composite")
    assert [vars(c) | {"grid": c.key} for c in once] == [vars(c) | {"grid": c.key} for c in again]


def test_views_that_are_no_numbers_make_no_part_of_it() -> None:
    scores = made_of(erring(0), RIGHT, RIGHT)
    candidates = rank(scores, "counts")
    scores.log_probs[1:, 0, 5] = np.nan
    assert with_composite(candidates, scores)[1].grid.tolist() == erring(0), "the only view that is left says so"
    assert with_composite(candidates, scores)[1].weight == pytest.approx(1.3)
    scores.log_probs[0, 0, 5] = np.inf
    assert with_composite(candidates, scores) == candidates
