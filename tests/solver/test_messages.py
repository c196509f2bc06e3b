"""Folding the messages of a task."""

from __future__ import annotations

from hrm_submit.arc.task import make_grid
from hrm_submit.predict.vote import Candidate
from hrm_submit.solver.messages import Alive, Answer, Outcome, Progress, Restarted

FIRST, SECOND = (((Candidate(make_grid([[colour]]), 4, -0.1),),) for colour in (1, 2))


def test_an_outcome_is_the_last_answer_with_candidates_and_all_that_was_spent() -> None:
    found = Outcome()
    for message in (
        Alive("t"),
        Progress("t", 10, 2.0, 0.1, 1.0),
        Answer("t", FIRST, False, 10, "mid-run vote", views=8, voters=8),
        Restarted("t", "the loss rose from 1 to 9"),
        Answer("t", ((),), False, 0, "the loss is not finite"),
    ):
        found.add(message)
    assert found.outputs == FIRST and (found.views, found.reason) == (8, "the loss is not finite")
    for message in (
        Progress("t", 5, 2.0, 0.3, 0.5),
        Progress("t", 20, 1.0, 0.9, 2.5),
        Answer("t", SECOND, True, 20, "votes agree", settled=True, views=32, voters=48),
    ):
        found.add(message)
    assert found.outputs == SECOND and (found.views, found.reason, found.settled) == (48, "votes agree", True)
    assert (found.segments, found.seconds, found.demo_exact) == (30, 3.5, 0.9), "of both trainings; the last one's share"
