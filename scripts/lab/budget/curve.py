"""How the share of solved outputs grows with training, as a curve fitted to what runs recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class SolvedCurve:
    """Share solved after s segments: `most` * (1 - exp(-s / `scale`))."""

    most: float
    scale: float

    def __call__(self, segments: float) -> float:
        """Share within 0..1."""
        return self.most * -float(np.expm1(-max(0.0, segments) / self.scale))


def fit_curve(segments: Sequence[float], solved: Sequence[bool]) -> SolvedCurve | None:
    """The curve that is likeliest to have given `solved` (did an output come out right with so many segments); None without data.

    Maximum likelihood over a grid of `scale`s (a decade below the least to a decade above the most segments) and of `most`s.
    """
    s = np.asarray(segments, dtype=float)
    right = np.asarray(solved, dtype=bool)
    if not len(s) or not (s > 0).any():
        return None
    positive = s[s > 0]
    scales = np.geomspace(positive.min() / 10, positive.max() * 10, 60)
    tops = np.linspace(0.0, 1.0, 101)
    shape = -np.expm1(-s[None, :] / scales[:, None])
    best = max(
        ((_likelihood(top * shape[k], right), -scales[k], top) for k in range(len(scales)) for top in tops),
        key=lambda item: item[0],
    )
    return SolvedCurve(float(best[2]), float(-best[1]))


def _likelihood(p: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return float(np.where(right, np.log(p), np.log1p(-p)).sum())
