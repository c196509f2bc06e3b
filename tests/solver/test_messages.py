"""What the messages of a task come to."""

from __future__ import annotations

from hrm_submit.arc.task import make_grid
from hrm_submit.predict.vote import Candidate
from hrm_submit.solver.messages import Alive, Answer, Message, Outcome, Progress, Restarted

FIRST, SECOND = (((Candidate(make_grid([[colour]]), 4, -0.1),),) for colour in (1, 2))


def outcome(*messages: Message) -> Outcome:
    found = Outcome()
    for message in messages:
        found.add(message)
    return found


def test_the_last_answer_and_all_that_was_spent() -> None:
    found = outcome(
        Alive("t"),
        Progress("t", 10, 2.0, 0.1, 1.0),
        Answer("t", FIRST, False, 10, "on the way", views=8, voters=8),
        Restarted("t", "the loss rose from 1 to 9"),
        Progress("t", 5, 2.0, 0.3, 0.5),
        Progress("t", 20, 1.0, 0.9, 2.5),
        Answer("t", SECOND, True, 20, "votes agree", settled=True, views=32, voters=48),
    )
    assert found.outputs == SECOND and (found.views, found.reason, found.settled) == (48, "votes agree", True)
    assert (found.segments, found.seconds, found.demo_exact) == (30, 3.5, 0.9), "of both trainings; the last one's share"


def test_an_end_without_candidates_leaves_the_answer_before_it() -> None:
    found = outcome(
        Answer("t", FIRST, False, 10, "on the way", views=8, voters=8),
        Restarted("t", "the loss is not finite"),
        Answer("t", ((),), True, 0, "the loss is not finite"),
    )
    assert found.outputs == FIRST and (found.views, found.reason) == (8, "the loss is not finite")


def test_nothing_was_told() -> None:
    assert outcome() == Outcome() and Outcome().outputs == () and Outcome().reason == "no vote"
