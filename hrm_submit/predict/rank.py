"""The rules that a run may vote by, from the scores of one output's views to its candidates."""

from __future__ import annotations

from hrm_submit.config.schema import VoteRule
from hrm_submit.predict.composite import with_composite
from hrm_submit.predict.scores import ViewScores
from hrm_submit.predict.vote import Candidate, vote


def rank(scores: ViewScores, rule: VoteRule) -> list[Candidate]:
    """The candidates that the views of one test input make after their last step, best first by `rule`."""
    candidates = vote(p for p in scores.predictions() if p is not None)
    return with_composite(candidates, scores) if rule == "composite" else candidates
