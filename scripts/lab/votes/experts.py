"""Product of experts: every distinct candidate is scored by every view, not only by those that gave it.

Notable: the model says all cells at once, so a candidate needs no new forward: it is drawn on each view's canvas as a label of
training is, and the log-probabilities of its tokens are summed, those of the border with them. What is summed over views is thus
the negative of what training minimises. After Franzen, Disselhoff and Hartmann, "The LLM ARChitect" (2024), who score by a
language model's log-probability under each augmentation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.augment import DIHEDRAL, augmentation_arrays
from hrm_submit.arc.canvas import PAD, PackedPairs, encode
from hrm_submit.arc.task import Grid
from hrm_submit.predict.scores import ViewScores
from hrm_submit.predict.vote import Candidate, ranked

MISFIT = -1e6
"""What a view gives to a grid that its canvas cannot hold: less than to any that it can, which has 900 tokens at most and none of
-1000 nats. So a grid that fits fewer canvases than another ranks below it."""


def likelihoods(scores: ViewScores, grids: Sequence[Grid]) -> npt.NDArray[np.float64]:
    """Log-probabilities (nats, (n, g)) by which each of n views, after its last step, holds each of g `grids` (un-augmented): its cells,
    and the border where the canvas has room for one. `MISFIT` where the grid does not fit. The padding around is left out, as training
    does."""
    transforms, colours, offsets = augmentation_arrays(scores.views)
    last = scores.last
    sums = np.full((len(scores), len(grids)), MISFIT)
    for g, grid in enumerate(grids):
        shapes = np.where(DIHEDRAL[transforms, :1], grid.shape[::-1], grid.shape)
        fits = np.flatnonzero((offsets + shapes <= scores.side).all(axis=1))
        packed = PackedPairs.from_inputs([grid])
        drawn, _ = encode(packed, np.zeros(len(fits), np.int64), transforms[fits], colours[fits], offsets[fits], scores.side)
        of_tokens = np.take_along_axis(last[fits], drawn[..., None].astype(np.int64), axis=-1)[..., 0]
        sums[fits, g] = np.where(drawn != PAD, of_tokens, 0.0).sum(axis=1, dtype=np.float64)
    return sums


def by_experts(candidates: Sequence[Candidate], scores: ViewScores) -> list[Candidate]:
    """`candidates` of one vote ranked by their mean log-likelihood under all views (nats a grid), best first.

    Their weight is their share of the views if those were divided by the softmax of that mean. Shares of
    several votes add up, a candidate that one of them has not counting 0 there, which likelihoods do not. Views whose numbers
    are not finite say nothing; where none is left the candidates stay as they are.
    """
    heard = scores.finite()
    if not candidates or not len(heard):
        return list(candidates)
    by_view = likelihoods(heard, [c.grid for c in candidates])
    # fsum is exact: the order of the views changes nothing.
    means = [math.fsum(column) / len(heard) for column in by_view.T.tolist()]
    weights = [math.exp(m - max(means)) for m in means]
    views, total = sum(c.votes for c in candidates), math.fsum(weights)
    return ranked(replace(c, weight=views * w / total) for c, w in zip(candidates, weights, strict=True))
