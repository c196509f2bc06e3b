"""Product of experts: an example by hand, a brute force, and what pooled weights mean."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.votes.experts import MISFIT, by_experts, likelihoods

from hrm_submit.arc.augment import IDENTITY, Augmentation
from hrm_submit.arc.task import Grid, make_grid
from hrm_submit.predict.rank import rank
from hrm_submit.predict.scores import ViewScores, join
from hrm_submit.predict.vote import Candidate, pool, vote
from tests.arc.strategies import augmentations, grids, plain_canvas
from tests.predict.lab import anything, showing

LN2 = float(np.log(2))
ONE, TWO = make_grid([[1]]), make_grid([[2]])


def halves(*powers: dict[tuple[int, int], int], side: int = 2) -> ViewScores:
    """Plain views whose token t in cell c has probability 2 ** -powers[view][c, t], and 2 ** -20 where nothing is said."""
    table = np.full((len(powers), 1, side * side, 12), 20.0)
    for k, view in enumerate(powers):
        for (cell, token), power in view.items():
            table[k, 0, cell, token] = power
    return ViewScores((IDENTITY,) * len(powers), side, (-LN2 * table).astype(np.float32), np.zeros((len(powers), 1)))


def judged(scores: ViewScores) -> list[Candidate]:
    """What its views show, ranked."""
    return by_experts(rank(scores, "counts"), scores)


def test_by_hand() -> None:
    """On a canvas of side 2 a single cell has border below (cell 2) and to the right (cell 1): tokens EOS, 1."""
    scores = halves(
        {(0, 3): 1, (0, 4): 2, (1, 1): 1, (2, 1): 1},  # [[1]]: 1/2 x 1/2 x 1/2; [[2]] half of that
        {(0, 3): 2, (0, 4): 3, (1, 1): 1, (2, 1): 3},  # [[1]]: 2 + 1 + 3 halvings; [[2]] one more
        {(0, 3): 9, (0, 4): 1, (1, 1): 0, (2, 1): 0},  # [[1]]: 9; [[2]]: 1
    )
    found = likelihoods(scores, [ONE, TWO, make_grid([[1, 2]])])
    np.testing.assert_allclose(found[:, :2] / -LN2, [[3, 4], [6, 7], [9, 1]], rtol=1e-5)
    np.testing.assert_allclose(found[0, 2] / -LN2, 1 + 20 + 1 + 20, rtol=1e-5)

    counted = rank(scores, "counts")
    assert [(c.grid.tolist(), c.votes) for c in counted] == [([[1]], 2), ([[2]], 1)]
    by_likelihood = judged(scores)
    # means of 6 and of 4 halvings: [[2]] is four times as likely, so that it has 4/5 of the three views
    assert [(c.grid.tolist(), c.votes) for c in by_likelihood] == [([[2]], 1), ([[1]], 2)]
    assert [c.weight for c in by_likelihood] == pytest.approx([2.4, 0.6], rel=1e-4)
    assert [c.score for c in by_likelihood] == [c.score for c in reversed(counted)], "what voters thought of it stays"


placed = st.builds(lambda a, row, column: Augmentation(a.dihedral, a.colours, (row, column)), augmentations, *[st.integers(0, 3)] * 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(placed, min_size=1, max_size=4), st.lists(grids(5), min_size=1, max_size=3), st.integers(4, 8), st.integers(0, 99))
def test_as_a_brute_force_says(views: list[Augmentation], candidates: list[Grid], side: int, seed: int) -> None:
    scores = anything(views, side, np.random.default_rng(seed))
    found = likelihoods(scores, candidates)
    for k, view in enumerate(views):
        for g, grid in enumerate(candidates):
            shown = view.apply(grid)
            if view.offset[0] + shown.shape[0] > side or view.offset[1] + shown.shape[1] > side:
                assert found[k, g] == MISFIT
                continue
            total = 0.0
            for cell, token in enumerate(plain_canvas(shown, view.offset, side).ravel()):
                if token:
                    total += float(scores.log_probs[k, 0, cell, token])
            assert found[k, g] == pytest.approx(total, rel=1e-5)


def test_what_fits_fewer_canvases_comes_last() -> None:
    views = [Augmentation(0, offset=(0, 2)), Augmentation(0), Augmentation(6)]
    wide, narrow = make_grid([[1, 1, 1]]), make_grid([[2, 2]])
    scores = showing([None, wide, wide], views, 3, sure=0.99)
    ordered = by_experts([Candidate(wide, 2, -0.1), Candidate(narrow, 0, -0.1), Candidate(ONE, 0, -9.0)], scores)
    assert [c.grid.tolist() for c in ordered] == [[[1]], [[1, 1, 1]], [[2, 2]]], "neither wide nor narrow fits the first view"
    assert [c.weight for c in ordered] == pytest.approx([2.0, 0.0, 0.0])
    assert all(np.isfinite(c.weight) for c in ordered)


def test_views_without_a_grid_have_a_say() -> None:
    """Two views are torn between 1 and 2; what decides is a third whose likeliest token is no colour at all."""
    scores = halves({(0, 3): 1, (0, 4): 2}, {(0, 3): 2, (0, 4): 1}, {(0, 0): 1, (0, 4): 2, (0, 3): 3}, side=1)
    assert [p is None for p in scores.predictions()] == [False, False, True]
    ordered = judged(scores)
    assert [c.grid.tolist() for c in ordered] == [[[2]], [[1]]]
    assert sum(c.weight for c in ordered) == pytest.approx(2.0), "there are as many votes as views with a grid"


def test_views_that_are_no_numbers_say_nothing() -> None:
    scores = halves({(0, 3): 2, (0, 4): 1}, {(0, 3): 1, (0, 4): 9}, side=1)
    candidates = vote(p for p in scores.predictions() if p)
    scores.log_probs[1, 0, 0, 7] = np.nan
    assert [c.grid.tolist() for c in by_experts(candidates, scores)] == [[[2]], [[1]]]
    scores.log_probs[0, 0, 0, 7] = np.inf
    assert by_experts(candidates, scores) == candidates
    assert by_experts([], scores) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_order_of_views_changes_nothing(seed: int, random: Random) -> None:
    rng = np.random.default_rng(seed)
    scores = anything([Augmentation(int(d)) for d in rng.integers(0, 8, 6)], 2, rng)
    parts = [scores.only(slice(k, k + 1)) for k in range(6)]
    random.shuffle(parts)
    once, again = judged(scores), judged(join(parts))
    assert [(c.key, c.votes, c.weight, c.score) for c in once] == [(c.key, c.votes, c.weight, c.score) for c in again]


def test_full_ties_are_broken_by_votes_then_cells() -> None:
    scores = halves({(0, 3): 1, (0, 4): 1, (0, 5): 1}, side=1)
    tied = [Candidate(make_grid([[3]]), 1, -1.0), Candidate(TWO, 2, -1.0), Candidate(ONE, 1, -1.0)]
    assert [c.grid.tolist() for c in by_experts(tied, scores)] == [[[2]], [[1]], [[3]]]


def test_pooled_weights_by_hand() -> None:
    """Two trainings of eight views: of a candidate that one has not, it believes nothing."""
    first = [Candidate(ONE, 3, -1.0, weight=6.0), Candidate(TWO, 5, -0.5, weight=2.0)]
    second = [Candidate(make_grid([[3]]), 2, -2.0, weight=4.5), Candidate(TWO, 6, -1.5, weight=3.5)]
    pooled = pool([first, second])
    assert [(c.grid.tolist(), c.votes, c.weight) for c in pooled] == [([[1]], 3, 6.0), ([[2]], 11, 5.5), ([[3]], 2, 4.5)]
    assert pooled[1].score == pytest.approx((5 * -0.5 + 6 * -1.5) / 11)
    third = [Candidate(TWO, 8, -0.1, weight=8.0)]
    at_once, in_turn = pool([first, second, third]), pool([pooled, third])
    assert [(c.key, c.votes, c.weight) for c in at_once] == [(c.key, c.votes, c.weight) for c in in_turn]
    assert at_once[0].grid.tolist() == [[2]] and at_once[0].weight == 13.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_weights_add_up_to_the_views(seed: int, trainings: int) -> None:
    rng = np.random.default_rng(seed)
    votes = [judged(anything([Augmentation(int(d)) for d in rng.integers(0, 8, 5)], 2, rng)) for _ in range(trainings)]
    pooled = pool(votes)
    assert sum(c.weight for c in pooled) == pytest.approx(sum(c.votes for c in pooled))
    assert [c.weight for c in pooled] == sorted((c.weight for c in pooled), reverse=True)
