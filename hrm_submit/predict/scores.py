"""What a model predicts for augmented views, still augmented: log-probabilities of all tokens of all canvas cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.canvas import decode
from hrm_submit.predict.vote import Candidate

Floats: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class ViewScores:
    """`n` views on canvases of N = side * side cells, after each of T ACT steps that were kept (the last one at least)."""

    views: tuple[Augmentation, ...]
    side: int
    log_probs: Floats
    """Natural logarithms of the tokens' probabilities, (n, T, N, vocabulary)."""

    def __len__(self) -> int:
        return len(self.views)

    @property
    def steps(self) -> int:
        """T."""
        return self.log_probs.shape[1]

    @property
    def last(self) -> npt.NDArray[np.float32]:
        """Log-probabilities after the last step, (n, N, vocabulary)."""
        return self.log_probs[:, -1].astype(np.float32, copy=False)

    def some(self, index: slice | npt.NDArray[np.integer]) -> ViewScores:
        """Select views."""
        views = tuple(self.views[i] for i in np.arange(len(self))[index])
        return ViewScores(views, self.side, self.log_probs[index])

    def finite(self) -> ViewScores:
        """Select the views whose numbers after the last step are finite."""
        sane = np.isfinite(self.last).all(axis=(1, 2))
        return self if sane.all() else self.some(np.flatnonzero(sane))

    def until(self, step: int) -> ViewScores:
        """Cut to the first `step` of the T steps, 1 <= step <= T."""
        return replace(self, log_probs=self.log_probs[:, :step])

    def at(self, steps: npt.NDArray[np.integer]) -> ViewScores:
        """Keep of each view one of the T steps, `steps` (n,) counted from 0."""
        own = np.arange(len(self)), steps
        return replace(self, log_probs=self.log_probs[own][:, None])

    def predictions(self) -> list[Candidate | None]:
        """Decode and un-augment the grid that each view shows after the last step; None where it shows none."""
        last = self.last
        tokens, sure = last.argmax(-1), last.max(-1).reshape(-1, self.side, self.side)
        predictions: list[Candidate | None] = []
        for grid, view, cells in zip(decode(tokens, self.side), self.views, sure, strict=True):
            if grid is None:
                predictions.append(None)
                continue
            confidence = cells[: grid.shape[0], : grid.shape[1]].mean()
            predictions.append(Candidate(view.invert(grid), 1, float(confidence)))
        return predictions


def join(parts: Sequence[ViewScores]) -> ViewScores:
    """Join the views of all `parts`, at least one, on canvases of one side and after as many steps; else numpy raises ValueError."""
    return ViewScores(
        tuple(v for p in parts for v in p.views),
        parts[0].side,
        np.concatenate([p.log_probs for p in parts]),
    )
