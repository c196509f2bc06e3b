"""The learning-rate factor, by hand."""

import pytest

from hrm_submit.config.schema import TrainConfig
from hrm_submit.train.schedule import rate_factor


@pytest.mark.parametrize(
    ("segment", "progress", "warmup", "decay", "least", "factor"),
    [
        (0, 0.0, 10, 0.0, 1.0, 0.1),  # the first of ten warm-up segments
        (4, 0.0, 10, 0.0, 1.0, 0.5),
        (9, 0.0, 10, 0.0, 1.0, 1.0),
        (500, 0.99, 10, 0.0, 0.0, 1.0),  # no decay asked for: lr_min_ratio means nothing
        (0, 0.0, 0, 0.5, 0.0, 1.0),  # no warm-up
        (99, 0.5, 10, 0.5, 0.0, 1.0),  # the decay is about to start
        (99, 0.75, 10, 0.5, 0.0, 0.5),
        (99, 1.0, 10, 0.5, 0.0, 0.0),
        (99, 1.0, 10, 0.5, 0.2, 0.2),
        (99, 0.75, 10, 0.5, 0.2, 0.6),
        (99, 1.7, 10, 0.5, 0.2, 0.2),  # past the end
        (4, 0.75, 10, 0.5, 0.0, 0.25),  # a run so short that it decays while warming up
        (99, 0.25, 10, 1.0, 0.0, 0.75),
        (99, 0.0, 10, 1.0, 0.0, 1.0),
    ],
)
def test_by_hand(segment: int, progress: float, warmup: int, decay: float, least: float, factor: float) -> None:
    config = TrainConfig(warmup_steps=warmup, decay_fraction=decay, lr_min_ratio=least)
    assert rate_factor(segment, progress, config) == pytest.approx(factor)
