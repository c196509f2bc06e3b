"""The rules that a run may vote by, from the scores of one output's views to its candidates.

A new rule is a function like those here, its name in `RULES`, and the same name in `config.schema.VoteRule`: docs/extend/voting-rule.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from hrm_submit.config.schema import VoteRule
from hrm_submit.predict.composite import with_composite
from hrm_submit.predict.scores import ViewScores
from hrm_submit.predict.vote import Candidate, vote

Rule: TypeAlias = Callable[[ViewScores], list[Candidate]]
"""From what the views of one test input say after their last step to the candidates, best first."""


def counts(scores: ViewScores) -> list[Candidate]:
    """Rank a grid by how many views gave it."""
    return vote(p for p in scores.predictions() if p is not None)


def composite(scores: ViewScores) -> list[Candidate]:
    """Rank as `counts` does, with a tenth of all votes for the grid of the highest mean probabilities."""
    return with_composite(counts(scores), scores)


RULES: Mapping[VoteRule, Rule] = {"counts": counts, "composite": composite}


def rank(scores: ViewScores, rule: VoteRule) -> list[Candidate]:
    """The candidates that the views of one test input make after their last step, best first by `rule`."""
    return RULES[rule](scores)
