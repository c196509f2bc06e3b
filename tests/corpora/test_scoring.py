"""Scores against a hand count."""

import pytest

from hrm_submit.arc.task import make_grid
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.scoring import score

A, B, C = make_grid([[1, 2], [3, 4]]), make_grid([[1, 2], [3, 0]]), make_grid([[5, 5, 5]])
WRONG = make_grid([[9]])

SOLUTIONS = {
    "one": (A,),  # right at the first attempt
    "two": (A, C),  # the first output right at the second attempt, the second output wrong
    "three": (C, A, B),  # right, another shape, no answer
    "four": (B,),  # not in the submission
}
SUBMISSION = {
    "one": ((A, WRONG),),
    "two": ((B, A), (make_grid([[5, 5, 6]]), make_grid([[5], [5], [5]]))),
    "three": ((C, C), (WRONG, WRONG)),
    "elsewhere": ((A, A),),
}


def test_every_figure_of_a_hand_count():
    result = score(SUBMISSION, SOLUTIONS)
    assert result["counts"] == {
        "tasks": 4,
        "outputs": 7,
        "solved_outputs@1": 2,  # one/0, three/0
        "solved_outputs@2": 3,  # and two/0
        "solved_tasks": 1,  # one
        "missing": 2,  # three/2, four/0
        "malformed": 0,
    }
    assert result["pass@1"] == pytest.approx(2 / 7)
    assert result["pass@2"] == pytest.approx(3 / 7)
    assert result["task_pass@2"] == pytest.approx(1 / 4)
    assert result["mean_task_pass@2"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 0) / 4)
    # first attempts: all 4 cells; 3 of 4; 2 of 3; all 3; another shape; none; none
    assert result["cell_accuracy"] == pytest.approx((1 + 3 / 4 + 2 / 3 + 1 + 0 + 0 + 0) / 7)


def test_answers_beyond_the_last_output_do_not_count():
    assert score({"one": ((WRONG, WRONG), (A, A))}, {"one": (A,)})["pass@2"] == 0


def test_nothing_to_score_is_an_error():
    with pytest.raises(DataError, match="no solutions"):
        score(SUBMISSION, {})
