"""The rules that a run may vote by, from the scores of one output's views to its candidates."""

from __future__ import annotations

from hrm_submit.core.config import VoteRule
from hrm_submit.predict.experts import by_experts
from hrm_submit.predict.scores import ViewScores
from hrm_submit.predict.vote import Candidate, vote


def rank(scores: ViewScores, rule: VoteRule) -> list[Candidate]:
    """Distinct grids that the views of one test input show after their last step, best first by `rule`."""
    candidates = vote(p for p in scores.predictions() if p is not None)
    return by_experts(candidates, scores) if rule == "experts" else candidates
