"""The supervisor's cost, by a run that is played: that the whole run is, and that what is counted is there."""

from __future__ import annotations

from lab.bench import scale


def test_a_played_run_answers_all_tasks_in_the_time_that_there_is() -> None:
    found = scale.measure(workers=20, tasks=90)
    assert found["answered"] == 90 and found["decisions"] >= 90
    assert 0.85 < found["budget_used"] < 1.0
    assert found["milliseconds_a_decision"] > 0 and found["megabytes_left"] > 0.1
