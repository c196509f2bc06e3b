"""Votes: examples worked by hand, and independence of the order in which predictions come. Answers without a model."""

import json
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.arc.jsonio import FaultError
from hrm_submit.arc.submission import faults, to_json
from hrm_submit.arc.task import Grid, Pair, Task, make_grid, same_grid
from hrm_submit.predict.fallback import fallback_attempts
from hrm_submit.predict.vote import Candidate, pool, ranked, two_attempts, vote
from tests.arc.strategies import tasks

A, B, C, D = make_grid([[1, 2]]), make_grid([[1], [2]]), make_grid([[3]]), make_grid([[4]])


def facts(candidates: list[Candidate]) -> list[tuple[list[list[int]], int, float, float]]:
    return [(c.grid.tolist(), c.votes, c.score, c.weight) for c in candidates]


def test_a_vote_by_hand() -> None:
    said = [(C, -0.25), (A, -1.0), (B, -0.5), (A, -3.0), (B, -1.5), (D, -0.125), (A, -2.0), (C, -0.75)]
    # A has three votes; B and C two each, and C the higher mean (-0.5 against -1); D, the surest of all, has one.
    wanted = [([[1, 2]], 3, -2.0, 3.0), ([[3]], 2, -0.5, 2.0), ([[1], [2]], 2, -1.0, 2.0), ([[4]], 1, -0.125, 1.0)]
    assert facts(vote(Candidate(grid, 1, score) for grid, score in said)) == wanted
    # A full tie is broken by shape and cells.
    grids = [make_grid([[2, 0]]), make_grid([[1, 9]]), make_grid([[0], [0]]), make_grid([[5]])]
    assert [c.grid.tolist() for c in vote(Candidate(g, 1, -1.0) for g in grids)] == [[[5]], [[1, 9]], [[2, 0]], [[0], [0]]]


few = st.integers(0, 5).map(lambda k: make_grid(np.array([[k // 3, k % 3]])))
predicted = st.builds(Candidate, few, st.just(1), st.floats(-50.0, 0.0))


@given(st.lists(predicted, max_size=14), st.randoms(use_true_random=False))
def test_every_prediction_is_one_vote_in_any_order(predictions: list[Candidate], random: Random) -> None:
    candidates, shuffled = vote(predictions), list(predictions)
    assert sum(c.votes for c in candidates) == len(predictions)
    assert [c.votes for c in candidates] == sorted((c.votes for c in candidates), reverse=True)
    assert len({c.key for c in candidates}) == len(candidates)
    random.shuffle(shuffled)
    assert facts(vote(shuffled)) == facts(candidates), "to the last bit of the scores"


def test_pooled_by_hand() -> None:
    first = [Candidate(A, 3, -1.0), Candidate(B, 1, -2.0)]
    second = [Candidate(B, 3, -4.0), Candidate(C, 2, -0.5), Candidate(A, 1, -3.0)]
    # A and B have four votes each, of which A's are the surer ones: (3 x -1 + 1 x -3) / 4 against (1 x -2 + 3 x -4) / 4.
    assert facts(pool([first, second])) == [([[1, 2]], 4, -1.5, 4.0), ([[1], [2]], 4, -3.5, 4.0), ([[3]], 2, -0.5, 2.0)]
    assert facts(pool([first, []])) == facts(first) and pool([[], []]) == []
    heavy = [Candidate(A, 3, -1.0, weight=6.0), Candidate(B, 5, -0.5, weight=2.0)]
    others = [Candidate(C, 2, -2.0, weight=4.5), Candidate(B, 6, -1.5, weight=3.5)]
    assert [(c.votes, c.weight) for c in pool([heavy, others])] == [(3, 6.0), (11, 5.5), (2, 4.5)], "weights rank before votes"


FALLBACK = (make_grid([[7]]), make_grid([[8]]))


def attempts(*grids: Grid, fallback: tuple[Grid, Grid] = FALLBACK) -> list[list[list[int]]]:
    return [g.tolist() for g in two_attempts([Candidate(g, 1, -1.0) for g in grids], fallback)]


def test_two_attempts_by_hand() -> None:
    assert attempts(A, C, D) == [[[1, 2]], [[3]]]
    assert attempts(A) == [[[1, 2]], [[7]]]
    assert attempts() == [[[7]], [[8]]]
    assert attempts(make_grid([[7]])) == [[[7]], [[8]]], "the first fallback says the same: the second one is of more use"
    assert attempts(C, fallback=(C, C)) == [[[3]], [[3]]], "nothing else is there"


def test_what_ranks_is_what_is_saved_and_earlier_versions_rank_by_votes() -> None:
    candidates = ranked([Candidate(A, 3, -0.25), Candidate(D, 0, -0.5, weight=3.2)])
    saved = json.loads(json.dumps([c.to_json() for c in candidates]))
    assert saved[0] == {"grid": [[4]], "votes": 0, "score": -0.5, "weight": 3.2} and saved[1]["weight"] == 3.0
    assert facts(ranked(map(Candidate.from_json, reversed(saved)))) == facts(candidates)
    assert Candidate.from_json({"grid": [[4]], "votes": 7, "score": -0.5}).weight == 7.0


GOOD = {"grid": [[1]], "votes": 1, "score": 0.0}
BAD = [{"score": None}, {"grid": [[10]]}, {"votes": "many"}, {"score": math.nan}, {"weight": math.inf}, {"votes": -1}, {"votes": 10**20}]


@pytest.mark.parametrize("value", [None, [], {}, {"grid": [[1]], "votes": 1}, *(GOOD | changed for changed in BAD)])
def test_what_is_no_candidate_is_refused(value: object) -> None:
    assert Candidate.from_json(GOOD).weight == 1.0
    with pytest.raises(FaultError):
        Candidate.from_json(value)


def task(*pairs: tuple[list[list[int]], list[list[int]]], test: list[list[int]]) -> Task:
    return Task("t", tuple(Pair(make_grid(i), make_grid(o)) for i, o in pairs), (make_grid(test),))


SAME_SIZE = task(([[1, 1]], [[2, 2]]), ([[3, 1]], [[2, 4]]), test=[[5, 6]])
ONE_SIZE = task(([[1]], [[2, 3]]), ([[1], [1]], [[2, 4]]), ([[1, 1]], [[7, 4]]), test=[[5, 6, 7]])


@pytest.mark.parametrize(
    ("example", "first", "second"),
    [
        # Of outputs laid over each other, 2 and 4 are as frequent in the second cell: the lesser colour.
        (SAME_SIZE, [[5, 6]], [[2, 2]]),
        (ONE_SIZE, [[2, 4]], [[0, 0]]),
        (task(([[5, 6]], [[5, 6]]), test=[[5, 6]]), [[5, 6]], [[0, 0]]),
        (task(([[0]], [[0]]), test=[[0]]), [[0]], [[1]]),
    ],
    ids=["the input, then the overlay", "the overlay, then blank", "input and overlay are equal", "blank too"],
)
def test_attempts_without_a_model_by_hand(example: Task, first: list[list[int]], second: list[list[int]]) -> None:
    (both,) = fallback_attempts(example)
    assert [g.tolist() for g in both] == [first, second]


@settings(max_examples=60)
@given(tasks(max_side=8))
def test_they_are_always_valid_and_always_two_different_grids(t: Task) -> None:
    pairs = fallback_attempts(t)
    assert not faults(json.loads(to_json({t.id: pairs})), {t.id: t})
    assert all(not same_grid(a, b) for a, b in pairs)
    assert all(isinstance(g, np.ndarray) and not g.flags.writeable for both in pairs for g in both)
