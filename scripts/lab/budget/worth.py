"""What a second is worth: the chance that a task is solved after so much training, and the division of time that solves most tasks.

Notable: the chance of a task is log-logistic in its training segments, 1 / (1 + (half / n) ** power), with a `half` that grows with the
cells of its canvas, as `curve` fits it to recorded runs. Time is divided by water-filling: every
task gets seconds until one second more is worth the same everywhere (Gibbs' lemma of optimal allocation, where returns diminish).
All tasks share one power, so one table of the inverse slope serves for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
HALVINGS = 80
"""Steps in which the worth of a second is found."""
POINTS, WIDEST = 4001, 1e12
"""Of the table: from a segment in `WIDEST` of the half to as many halves."""


@dataclass(frozen=True)
class Slopes:
    """For one power: what one more part of the half adds to the chance, by parts of the half, where returns diminish."""

    parts: Floats
    """Ascending segments over half."""
    worth: Floats
    """Descending slope of the chance there."""
    best: float
    """The largest mean slope from none on: what is worth more than this is not to be had."""

    @staticmethod
    def of(power: float) -> Slopes:
        """The table. Raises ValueError for a power that is not above 0."""
        if not power > 0:
            raise ValueError("a power must be above 0")
        # With a power above 1 the first segments add ever more; from here on each adds less than those before it did on average.
        turning = (power - 1.0) ** (1.0 / power) if power > 1.0 else 0.0
        parts = np.geomspace(max(turning, 1.0 / WIDEST), WIDEST, POINTS)
        p = 1.0 / (1.0 + parts**-power)
        worth = power * p / (1.0 + parts**power) / parts
        return Slopes(parts, worth, float(p[0] / parts[0]) if turning else np.inf)

    def parts_at(self, worth: Floats) -> Floats:
        """Parts of the half after which one more is worth `worth`; 0 where none is."""
        found = np.exp(np.interp(-np.log(worth), -np.log(self.worth), np.log(self.parts)))
        return np.where(worth >= self.best, 0.0, found)


@dataclass(frozen=True)
class Level:
    """A division of time: the worth of a second at which it was made, and the factor that uses all of it."""

    worth: float
    scale: float
    least: float

    def seconds(self, slopes: Slopes, half: Floats, each: Floats) -> Floats:
        """What each task gets: `half` its segments, `each` the seconds of one."""
        return self.scale * _given(slopes, half, each, self.worth, self.least)


def halves(cells: Floats, half: float, growth: float) -> Floats:
    """Segments after which the chance is one half on canvases of `cells` cells (n,): `half` at 100, growing with that power."""
    return half * (cells / 100.0) ** growth


def water_level(slopes: Slopes, half: Floats, each: Floats, total: float, least: float) -> Level:
    """The level at which tasks take `total` seconds in all and the sum of their chances is largest.

    `half` (n,) are the segments after which each task's chance is one half, `each` (n,) the seconds of a segment. Each task gets the
    time of `least` segments, or less where even that is more than there is. Raises ValueError where a number is not above 0.
    """
    if not total > 0 or not least > 0 or not (half > 0).all() or not (each > 0).all():
        raise ValueError("seconds, segments and halves must be above 0")
    low, high = -80.0, 30.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _given(slopes, half, each, float(np.exp(middle)), least).sum() > total:
            low = middle
        else:
            high = middle
    worth = float(np.exp(high))
    return Level(worth, float(total / _given(slopes, half, each, worth, least).sum()), least)


def _given(slopes: Slopes, half: Floats, each: Floats, worth: float, least: float) -> Floats:
    return np.maximum(least * each, each * half * slopes.parts_at(worth * each * half))
