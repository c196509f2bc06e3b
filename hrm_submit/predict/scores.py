"""What a model predicts for augmented views, still augmented: log-probabilities of all tokens of all canvas cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.canvas import decode
from hrm_submit.predict.vote import Candidate


@dataclass(frozen=True, eq=False)
class ViewScores:
    """`n` views on canvases of N = side * side cells, after the last ACT step."""

    views: tuple[Augmentation, ...]
    side: int
    log_probs: npt.NDArray[np.float32]
    """Natural logarithms of the tokens' probabilities, (n, N, vocabulary)."""

    def __len__(self) -> int:
        return len(self.views)

    def some(self, index: slice | npt.NDArray[np.integer]) -> ViewScores:
        """Select views."""
        views = tuple(self.views[i] for i in np.arange(len(self))[index])
        return ViewScores(views, self.side, self.log_probs[index])

    def finite(self) -> ViewScores:
        """Select the views whose numbers are finite."""
        sane = np.isfinite(self.log_probs).all(axis=(1, 2))
        return self if sane.all() else self.some(np.flatnonzero(sane))

    def predictions(self) -> list[Candidate | None]:
        """Decode and un-augment the grid that each view shows; None where it shows none."""
        tokens, sure = self.log_probs.argmax(-1), self.log_probs.max(-1).reshape(-1, self.side, self.side)
        predictions: list[Candidate | None] = []
        for grid, view, cells in zip(decode(tokens, self.side), self.views, sure, strict=True):
            if grid is None:
                predictions.append(None)
                continue
            confidence = cells[: grid.shape[0], : grid.shape[1]].mean()
            predictions.append(Candidate(view.invert(grid), 1, float(confidence)))
        return predictions


def join(parts: Sequence[ViewScores]) -> ViewScores:
    """Join the views of all `parts`, at least one, on canvases of one side; else numpy raises ValueError."""
    return ViewScores(
        tuple(v for p in parts for v in p.views),
        parts[0].side,
        np.concatenate([p.log_probs for p in parts]),
    )
