"""The voting rules, from the scores of one output's views to its candidates.

A new rule is a function like those here, its name in `RULES` and in `config.schema.VoteRule`: docs/extend/voting-rule.md. `composite`
adds the grid whose every cell has the colour of the highest mean probability over views: right where many views each err in another cell.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.augment import DIHEDRAL, dihedral, inverse_dihedral
from hrm_submit.arc.canvas import FIRST_COLOUR
from hrm_submit.arc.task import N_COLOURS, make_grid
from hrm_submit.config.schema import VoteRule
from hrm_submit.predict.scores import ViewScores
from hrm_submit.predict.vote import Candidate, ranked, vote

Rule: TypeAlias = Callable[[ViewScores], list[Candidate]]
"""From the scores of one test input's views to the candidates, best first."""

SHARE = 0.1
"""Votes of the composite besides its own, as a part of all votes: on saved votes of held-out tasks 0.05 to 0.2 scored alike."""


def counts(scores: ViewScores) -> list[Candidate]:
    """Rank a grid by how many views gave it."""
    return vote(p for p in scores.predictions() if p is not None)


def composite(scores: ViewScores) -> list[Candidate]:
    """Rank as `counts` does, with a tenth of all votes for the composite."""
    return with_composite(counts(scores), scores)


RULES: Mapping[VoteRule, Rule] = {"counts": counts, "composite": composite}


def rank(scores: ViewScores, rule: VoteRule) -> list[Candidate]:
    """Rank the candidates of one test input by `rule`, best first."""
    return RULES[rule](scores)


def with_composite(candidates: Sequence[Candidate], scores: ViewScores) -> list[Candidate]:
    """Rank the `candidates` of one vote (best first) and the composite in the size of the first by votes and its share.

    A composite that no view gave has 0 votes; its `score` is the mean log-probability of its cells over views (nats). Views whose
    numbers are not finite, or whose canvas cannot hold that size, are left out; without any left the candidates stay as they are.
    """
    if not candidates:
        return []
    best, votes = candidates[0].grid, sum(c.votes for c in candidates)
    cells = colours_of_cells(scores.finite(), (best.shape[0], best.shape[1]))
    if not len(cells):
        return list(candidates)
    # Sorted, as a sum's last bits depend on the order of its terms, and ties do happen.
    grid = make_grid(np.sort(np.exp(cells), axis=0).sum(axis=0).argmax(-1))
    sure = np.take_along_axis(cells, grid[None, ..., None].astype(np.int64), axis=-1)
    made = Candidate(grid, 0, math.fsum(sure.ravel().tolist()) / sure.size)
    pooled = [*candidates] if made.key in {c.key for c in candidates} else [*candidates, made]
    return ranked(replace(c, weight=c.votes + SHARE * votes * (c.key == made.key)) for c in pooled)


def colours_of_cells(scores: ViewScores, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return log-probabilities of the ten colours in each cell of an un-augmented grid of `shape`.

    (views that can hold one, *shape, 10)
    """
    side, found = scores.side, []
    canvas = np.arange(side * side, dtype=np.int64).reshape(side, side)
    for view, log_probs in zip(scores.views, scores.log_probs, strict=True):
        rows, columns = shape[::-1] if DIHEDRAL[view.dihedral, 0] else shape
        if max(rows, columns) <= side:
            # The transform moves whole cells: it is undone on their positions.
            positions = dihedral(canvas[:rows, :columns], inverse_dihedral(view.dihedral))
            found.append(log_probs[positions][..., [FIRST_COLOUR + c for c in view.colours]])
    return np.array(found, dtype=np.float64).reshape(-1, *shape, N_COLOURS)
