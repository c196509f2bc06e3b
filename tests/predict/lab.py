"""Scores made by hand: views that show a given grid, views that say anything at all, and a model in whose place one answers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.canvas import encode_inputs
from hrm_submit.arc.task import Grid
from hrm_submit.predict import answer as answer_module
from hrm_submit.predict.scores import ViewScores

SURE = 0.9


def showing(grids: Sequence[Grid | None], views: Sequence[Augmentation], side: int, sure: float = SURE) -> ViewScores:
    """Each view shows its grid (un-augmented; None: nothing), every token of it with probability `sure`, the others sharing the rest."""
    tokens = np.zeros((len(views), side * side), dtype=np.int64)
    for k, (grid, view) in enumerate(zip(grids, views, strict=True)):
        if grid is not None:
            tokens[k] = encode_inputs([grid], [view], side)[0]
    probabilities = np.full((len(views), side * side, 12), (1 - sure) / 11)
    np.put_along_axis(probabilities, tokens[:, :, None], sure, axis=-1)
    return ViewScores(tuple(views), side, np.log(probabilities).astype(np.float32))


def anything(views: Sequence[Augmentation], side: int, rng: np.random.Generator, spread: float = 2.0) -> ViewScores:
    """Random probabilities, of which none matters to another."""
    logits = rng.normal(size=(len(views), side * side, 12)) * spread
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return ViewScores(tuple(views), side, log_probs.astype(np.float32))


def answering(monkeypatch: pytest.MonkeyPatch, say: Callable[[Sequence[Any]], Sequence[Grid | None]]) -> None:
    """Let every model show the grids that `say` makes of the views requested."""

    def score_views(model: Any, embedding: Any, requests: Any, side: int, *args: Any, **options: Any) -> ViewScores:
        return showing(say(requests), [r.view for r in requests], side)

    monkeypatch.setattr(answer_module, "score_views", score_views)
