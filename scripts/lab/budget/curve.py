"""How the chance that an output is solved grows with training and falls with size, fitted to what runs recorded.

Notable: a logistic regression on the logarithms of segments and cells, so that the odds grow with a power of the training; by
Newton's method (iteratively reweighted least squares), with a weak prior on both powers, as the runs of one budget say little of what
more time gives. Uncertainty is that of a bootstrap over tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

PRIOR = np.array([0.0, 0.5, -0.5])
"""Of the bias and the two powers: twice the training makes the odds 1.4 times as large, and twice the cells 0.7 times."""
PRECISION = np.array([1e-3, 4.0, 4.0])
"""Of the prior, which is normal: a standard deviation of a half for each power, and next to nothing said of the bias."""
STEPS = 30


@dataclass(frozen=True)
class Outcome:
    """One output of a task of `cells` cells (of its canvas) after `segments` segments of training, and whether it was solved."""

    task: str
    segments: int
    cells: int
    solved: bool


@dataclass(frozen=True)
class SolvedCurve:
    """The chance of an output: 1 / (1 + exp(-(`bias` + `power` * log segments + `cells` * log cells)))."""

    bias: float
    power: float
    cells: float

    def __call__(self, segments: float, cells: float) -> float:
        """Within 0..1; 0 without a segment."""
        if segments <= 0:
            return 0.0
        return float(1 / (1 + np.exp(-(self.bias + self.power * np.log(segments) + self.cells * np.log(cells)))))

    def law(self) -> Law | None:
        """The same curve in other words; None where more training, or fewer cells, would solve less, or all but so."""
        if not self.power > 0.05 or self.cells > 0:
            return None
        half = float(np.exp(-(self.bias + self.cells * np.log(100.0)) / self.power))
        return Law(self.power, half, -self.cells / self.power) if 1e-3 < half < 1e9 else None


class Law(NamedTuple):
    """The chance after n segments is 1 / (1 + (h / n) ** `power`), with h = `half` * (cells / 100) ** `growth`."""

    power: float
    half: float
    growth: float


def fit_curve(outcomes: Sequence[Outcome]) -> SolvedCurve | None:
    """The likeliest curve, given the prior; None without an output that was trained for at all."""
    trained = [o for o in outcomes if o.segments > 0]
    if not trained:
        return None
    return _fitted(*_arrays(trained), np.ones(len(trained)))


def resampled(outcomes: Sequence[Outcome], n: int, seed: int = 0) -> list[SolvedCurve]:
    """The curves of `n` bootstrap samples, in which whole tasks are drawn; empty where `fit_curve` has none."""
    trained = [o for o in outcomes if o.segments > 0]
    if not trained:
        return []
    x, y = _arrays(trained)
    names, member = np.unique([o.task for o in trained], return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    return [_fitted(x, y, times[member].astype(np.float64)) for times in drawn]


def predicted(
    curve: SolvedCurve, curves: Sequence[SolvedCurve], tasks: Sequence[tuple[float, int]], seed: int = 0
) -> tuple[float, float, float]:
    """The share of outputs that is predicted to be solved, and a 95 % interval of what a run would show: `tasks` are the segments and cells
    of each output. The interval holds the doubt about the curve (`curves`) and the chance of each output."""
    share = float(np.mean([curve(*task) for task in tasks]))
    rng = np.random.default_rng(seed)
    seen = [float(np.mean(rng.random(len(tasks)) < [other(*task) for task in tasks])) for other in curves or [curve]]
    low, high = np.percentile(seen, [2.5, 97.5])
    return share, float(low), float(high)


def _arrays(outcomes: Sequence[Outcome]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    x = np.array([[1.0, np.log(o.segments), np.log(o.cells)] for o in outcomes])
    return x, np.array([o.solved for o in outcomes], dtype=np.float64)


def _fitted(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> SolvedCurve:
    return SolvedCurve(*(float(b) for b in newton(x, y, times, PRIOR, PRECISION)))


def newton(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    times: npt.NDArray[np.float64],
    prior: npt.NDArray[np.float64],
    precision: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """The mode of the posterior of a logistic regression of `y` (n,) on `x` (n, k), each row counted `times`, under a normal prior."""
    beta = prior.copy()
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        gradient = x.T @ (times * (y - p)) - precision * (beta - prior)
        curvature = (x * (times * p * (1 - p))[:, None]).T @ x + np.diag(precision)
        step = np.linalg.solve(curvature, gradient)
        beta = beta + step * min(1.0, 3.0 / max(1e-12, float(np.abs(step).max())))
    return beta
