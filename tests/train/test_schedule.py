"""The learning-rate factor, progress and the time reserved for the end, by hand, on a clock that is set."""

import pytest

from hrm_submit.config.schema import TrainConfig
from hrm_submit.core.clock import Clock
from hrm_submit.train.progress import RunProgress
from hrm_submit.train.schedule import rate_factor
from tests.run.fake_pool import Time


@pytest.mark.parametrize(
    ("segment", "progress", "warmup", "decay", "least", "factor"),
    [
        (0, 0.0, 10, 0.0, 1.0, 0.1),  # the first of ten warm-up segments
        (9, 0.0, 10, 0.0, 1.0, 1.0),
        (500, 0.99, 10, 0.0, 0.0, 1.0),  # no decay asked for: lr_min_ratio means nothing
        (0, 0.0, 0, 0.5, 0.0, 1.0),  # no warm-up
        (99, 0.5, 10, 0.5, 0.0, 1.0),  # the decay is about to start
        (99, 1.0, 10, 0.5, 0.0, 0.0),
        (99, 0.75, 10, 0.5, 0.2, 0.6),
        (99, 1.7, 10, 0.5, 0.2, 0.2),  # past the end
        (4, 0.75, 10, 0.5, 0.0, 0.25),  # a run so short that it decays while warming up
        (99, 0.25, 10, 1.0, 0.0, 0.75),
    ],
)
def test_rates_by_hand(segment: int, progress: float, warmup: int, decay: float, least: float, factor: float) -> None:
    config = TrainConfig(warmup_steps=warmup, decay_fraction=decay, lr_min_ratio=least)
    assert rate_factor(segment, progress, config) == pytest.approx(factor)


def test_by_time_what_was_timed_is_reserved() -> None:
    clock = Time()
    run = RunProgress(Clock(source=clock), 100.0, None)
    assert run.reserved() == 3.0, "for the plot and the exit"
    run.expect("save", 0.02, 1.5)
    assert run.reserved() == 4.5, "two hundredths would be more than the most allowed"
    clock.now = 10.0
    with run.timed("save"):
        clock.now = 14.0
    assert run.reserved() == 3.0 + 5.0 and run.last("save") == 5.0, "a quarter more than it took"
    clock.now = 46.0
    assert run.after(1) == pytest.approx(0.5)
    run.expect("save", 0.5, 50.0)
    assert run.reserved() == 8.0, "what was measured needs no guess"


def test_the_slowest_segment_is_reserved_but_for_the_first() -> None:
    clock = Time()
    run = RunProgress(Clock(source=clock), 200.0, None)
    for segment, now in enumerate((0.0, 30.0, 31.0, 36.0, 38.0)):  # segments of 30, 1, 5 and 2 seconds
        clock.now = now
        run.after(segment)
    assert run.reserved() == 3.0 + 5.0
    with run.timed("save"):
        clock.now = 58.0
    clock.now = 60.0
    run.after(5)
    assert run.reserved() == 3.0 + 5.0 + 25.0, "the save was no part of its segment"


def test_progress_never_falls_and_never_ends_in_the_first_half() -> None:
    clock = Time()
    run = RunProgress(Clock(source=clock), 100.0, None)
    with run.timed("validation"):
        clock.now = 45.0
    assert run.reserved() == 50.0 and run.after(0) == pytest.approx(0.9)
    with run.timed("validation"):
        pass
    assert run.after(0) == pytest.approx(0.9), "though less is reserved now"
    clock.now = 97.0
    assert run.after(0) == 1.0 and not run.late()
    clock.now = 97.5
    assert run.late()
