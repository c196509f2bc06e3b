"""Rules of voting that were tried, each with an example worked by hand; un-augmented log-probabilities by their inverse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.votes.ballot import Ballot
from lab.votes.rules import RULES, STOPS, steps_taken

from hrm_submit.arc.augment import IDENTITY, Augmentation
from hrm_submit.arc.canvas import encode_inputs
from hrm_submit.arc.task import Grid, make_grid
from hrm_submit.predict.composite import colours_of_cells, composite, holds, unaugmented
from hrm_submit.predict.scores import ViewScores, join
from tests.arc.strategies import augmentations
from tests.predict.lab import anything, showing


def cells(*views: dict[int, float], q: Sequence[float] | None = None) -> ViewScores:
    """Views on a canvas of one cell, which has no room for a border: the probability of each colour, the rest being PAD's."""
    table = np.full((len(views), 1, 1, 12), 1e-9)
    for k, view in enumerate(views):
        for colour, p in view.items():
            table[k, 0, 0, 2 + colour] = p
        table[k, 0, 0, 0] = max(1e-9, 1 - sum(view.values()))
    return ViewScores((IDENTITY,) * len(views), 1, np.log(table), np.array([q or [0.0] * len(views)], dtype=np.float64).T)


def steps(*each: ViewScores) -> ViewScores:
    """The same views after one step more each."""
    return ViewScores(
        each[0].views, each[0].side, np.concatenate([e.log_probs for e in each], 1), np.concatenate([e.q_halt for e in each], 1)
    )


def plain(*grids: list[list[int]] | None, side: int = 4) -> ViewScores:
    """Plain views that show these."""
    return showing([None if g is None else make_grid(g) for g in grids], [IDENTITY] * len(grids), side)


def order(rule: str, *trainings: ViewScores) -> list[list[list[int]]]:
    return [g.tolist() for g in RULES[rule](Ballot(trainings))]


def colours(rule: str, *trainings: ViewScores) -> list[int]:
    return [grid[0][0] for grid in order(rule, *trainings)]


TORN = cells({1: 0.6, 2: 0.3}, {1: 0.5, 2: 0.4}, {1: 0.001, 2: 0.9}, q=[np.log(0.25), np.log(0.25), 0.0])
"""Two views say 1 and could say 2; one is sure of 2. Halt values stand for 1/5, 1/5 and 1/2."""


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("counts", [1, 2]),  # 2 against 1
        ("composite", [1, 2]),  # 2 against 1 and a tenth of 3: the mean probability of 2 is higher, .533 against .367
        ("experts", [2, 1]),  # .3 x .4 x .9 against .6 x .5 x .001
    ],
)
def test_two_views_against_a_sure_one(rule: str, expected: list[int]) -> None:
    assert colours(rule, TORN) == expected


def test_experts_of_several_trainings() -> None:
    """The first believes half in each of two, the second is sure of a third and has heard of no other."""
    torn, sure = cells({1: 0.45, 2: 0.45 - 1e-6}, {2: 0.45, 1: 0.45 - 1e-6}), cells({3: 0.9, 1: 0.01}, {3: 0.9, 1: 0.01})
    assert colours("experts", torn, sure) == [3, 1, 2], "shares of two views each: 2 against 1 and 1"


ALMOST = ([[2, 1, 1]], [[1, 2, 1]], [[1, 1, 2]])
"""Each is wrong in another cell."""


def test_a_grid_that_no_view_gave_can_be_made() -> None:
    scores = plain(*ALMOST)
    assert [[1, 1, 1]] not in order("counts", scores)
    assert [[1, 1, 1]] not in order("experts", scores)
    assert order("composite", scores)[3] == [[1, 1, 1]], "two of three views have each cell so, but a tenth is less than a third"


def test_the_mean_of_probabilities_forgives_what_the_product_does_not() -> None:
    """Two views are sure of 1, the third gives it no chance at all."""
    said = colours_of_cells(cells({1: 0.9, 2: 0.1}, {1: 0.9, 2: 0.1}, {2: 0.6, 1: 1e-6}), (1, 1))
    assert composite(np.exp(said)).tolist() == [[1]], "1.8 against 0.8"
    assert composite(said).tolist() == [[2]], ".81e-6 against .006"


def test_steps_by_hand() -> None:
    """Four views over three steps; a vote is 1, 2 or 3.

    view 0: 1 1 2, view 1: 3 1 2, view 2: 1 1 1, view 3: 3 3 3.
    """
    shown = [(1, 1, 2), (3, 1, 2), (1, 1, 1), (3, 3, 3)]
    halts = [(-1, 1, 1), (-1, -1, -1), (2, -1, 3), (-2, -3, -4)]
    scores = steps(*(cells(*({v[s]: 0.6} for v in shown), q=[h[s] for h in halts]) for s in range(3)))
    assert colours("counts", scores) == [2, 1, 3], "after the last step: 2 2 1 3"
    assert colours("all steps", scores) == [1, 3, 2], "five times 1, four times 3, three times 2"
    assert colours("stop when unchanged", scores) == [1, 2, 3], "1 after the second step, 2 after the last, 1, 3"
    assert colours("stop by q", scores) == [1, 2, 3], "1 after the second, 2 after the last, 1 after the first, 3"
    once = scores.until(1)
    ballot = Ballot([scores])
    assert STOPS["stop when unchanged"](ballot).tolist() == [1, 2, 1, 1] and steps_taken("stop when unchanged", ballot) == 2.25
    assert STOPS["stop by q"](ballot).tolist() == [1, 2, 0, 2] and steps_taken("counts", ballot) == 3
    for rule in ("all steps", *STOPS):
        assert colours(rule, once) == colours("counts", once) == [1, 3], "one step leaves no choice"


def test_a_view_is_at_rest_when_its_entropy_hardly_moves() -> None:
    """A cell that is 1 with .6, .9, .9 and another colour with the rest; the second view never rests, the third does at once."""
    views = [((0.6, 0.9, 0.9), (0.9, 0.6, 0.9), (0.7, 0.7, 0.9))]
    scores = steps(*(cells(*({1: p[s], 2: 1 - p[s]} for p in views[0])) for s in range(3)))
    assert STOPS["stop at rest"](Ballot([scores])).tolist() == [2, 2, 1]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_orders_all_candidates_whatever_the_order_of_views(rule: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(6):
        views = [Augmentation(int(d)) for d in rng.integers(0, 8, 7)]
        shown = [make_grid(rng.integers(0, 3, (1, int(rng.integers(1, 3))))) for _ in views]
        scores = steps(*(showing(shown[k:] + shown[:k], views, 3, sure=0.5 + 0.1 * k) for k in range(3)))
        grids = order(rule, scores)
        if "step" not in rule and "stop" not in rule:
            assert all(g in grids for g in order("counts", scores))
        assert len({str(g) for g in grids}) == len(grids)
        turned = join([scores.only(slice(k, k + 1)) for k in rng.permutation(7)])
        assert order(rule, turned) == grids
        assert order(rule, plain(None, None)) == [], "no grid, no answer"


def test_views_that_are_no_numbers_leave_a_ballot_usable() -> None:
    scores = cells({1: 0.6, 2: 0.3}, {3: 0.6, 2: 0.3})
    scores.log_probs[1] = np.nan
    for rule in RULES:
        assert colours(rule, scores) == [1]
    scores.log_probs[0] = np.nan
    for rule in RULES:
        assert order(rule, scores) == []


@settings(max_examples=60, deadline=None)
@given(augmentations, st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.integers(0, 2), st.integers(0, 999))
def test_unaugmenting_log_probabilities_undoes_the_augmentation(
    a: Augmentation, rows: int, columns: int, top: int, left: int, seed: int
) -> None:
    """What a view says of a cell of a grid is what its canvas says where, and in the colour that, the augmented grid has it."""
    side, view = 6, Augmentation(a.dihedral, a.colours, (top, left))
    rng = np.random.default_rng(seed)
    scores = anything([view], side, rng)
    found = unaugmented(view, scores.last[0], side, (rows, columns))
    assert found.shape == (rows, columns, 10)
    grid: Grid = make_grid(rng.integers(0, 10, (rows, columns)))
    drawn = encode_inputs([grid], [view], side)[0].reshape(side, side)
    turned_rows, turned_columns = view.apply(grid).shape
    region = (slice(top, top + turned_rows), slice(left, left + turned_columns))
    said = np.take_along_axis(scores.last[0].reshape(side, side, 12), drawn[..., None].astype(int), -1)[..., 0][region]
    np.testing.assert_allclose(np.sort(np.take_along_axis(found, grid[..., None].astype(int), -1).ravel()), np.sort(said.ravel()))
    # and the other way round: numbers of an un-augmented grid, put on the canvas cell by cell, come back
    wanted = rng.normal(size=(rows, columns, 10))
    canvas = np.full((side, side, 12), 1e9)
    places = view.apply(make_grid(np.zeros((rows, columns)))).shape
    assert holds(view, side, (rows, columns)) and places == (turned_rows, turned_columns)
    number = np.arange(rows * columns).reshape(rows, columns)
    for r in range(rows):
        for c in range(columns):
            mark = make_grid((number == number[r, c]).astype(np.uint8))
            marked = Augmentation(view.dihedral).apply(mark)
            y, x = (int(i[0]) for i in np.nonzero(marked))
            for colour in range(10):
                canvas[top + y, left + x, 2 + view.colours[colour]] = wanted[r, c, colour]
    np.testing.assert_array_equal(unaugmented(view, canvas.reshape(side * side, 12), side, (rows, columns)), wanted)


def test_a_view_that_cannot_hold_a_grid_is_left_out_of_its_cells() -> None:
    scores = showing([make_grid([[1]]), make_grid([[1]])], [Augmentation(0, offset=(0, 2)), Augmentation(1)], 3)
    assert colours_of_cells(scores, (1, 3)).shape == (1, 1, 3, 10)
    assert colours_of_cells(scores, (1, 1)).shape == (2, 1, 1, 10)
