"""A model asked for a task's answer: which views are asked, in what batches, and how their votes are ranked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hrm_submit.arc.augment import Augmentation, sample_augmentations
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.schema import VoteConfig
from hrm_submit.model.weights import build
from hrm_submit.predict.answer import answer, answer_in_batches, spread_views
from hrm_submit.predict.rank import rank
from hrm_submit.predict.vote import vote
from tests.model.tiny import TINY

CFG = replace(TINY, halt_max_steps=2, embedding="shared")
RNG = np.random.default_rng(4)
GRIDS = [make_grid(RNG.integers(0, 5, (3, 3))) for _ in range(6)]
TASK = Task("t", (Pair(GRIDS[0], GRIDS[1]), Pair(GRIDS[2], GRIDS[3])), (GRIDS[4], GRIDS[5]))
VIEWS = sample_augmentations(TASK, 12, np.random.default_rng(0), colours="permute")
ROWS = [0] * len(VIEWS)


def facts(outputs: Any) -> list[list[tuple[Any, int, float, float]]]:
    return [[(c.key, c.votes, c.score, c.weight) for c in candidates] for candidates in outputs]


def model(seed: int = 3) -> Any:
    return build(CFG, n_rows=1, seed=seed)


def test_views_are_spread_over_the_transforms() -> None:
    views = [Augmentation(d) for d in (0, 0, 0, 3, 3, 5)]
    assert spread_views(views, 4) == [0, 3, 5, 1]
    assert spread_views(views, 100) == [0, 3, 5, 1, 4, 2]
    assert spread_views(views, 1) == [0], "the plain view is always among them"


def test_none_before_each_batch_and_the_same_vote_whatever_their_size() -> None:
    found = {}
    for size, batches in ((5, 4), (16, 1)):
        config = VoteConfig(views=8, act_steps=1, batch_size=size)
        *before, last = answer_in_batches(*model(), TASK, VIEWS, ROWS, config)
        assert before == [None] * batches and last is not None
        found[size] = [[(c.key, c.votes) for c in output] for output in last.outputs]
        assert last.views == 8 and len(last.scores) == 16
    assert found[5] == found[16]


@pytest.mark.parametrize("rule", ["counts", "composite"])
def test_each_output_is_ranked_by_the_rule_from_its_own_views(rule: Any) -> None:
    made = answer(*model(), TASK, VIEWS, ROWS, VoteConfig(views=8, act_steps=1, rule=rule))
    ranked = [rank(made.raw("t", 0, 1).of_output(k), rule) for k in range(2)]
    assert facts(made.outputs) == facts(ranked) and facts(ranked[:1]) != facts(ranked[1:])
    assert all((sum(c.weight - c.votes for c in output) > 0) == (rule == "composite") for output in made.outputs)


@pytest.mark.parametrize("halt", ["never", "rest"])
def test_further_steps_are_kept_and_change_no_answer(halt: Any) -> None:
    config = VoteConfig(views=6, act_steps=4, batch_size=32, rule="counts", halt=halt)
    plain = answer(*model(), TASK, VIEWS, ROWS, config)
    kept = answer(*model(), TASK, VIEWS, ROWS, config, every_step=True)
    assert facts(kept.outputs) == facts(plain.outputs), "the model was trained for two steps, and answers after these"
    assert kept.scores.log_probs.shape[1] == 4 and plain.scores.log_probs.shape[1] == 1
    recount = vote(p for p in kept.raw("t", 0, 2).of_output(1).until(2).predictions() if p)
    assert [(c.key, c.votes) for c in recount] == [(c.key, c.votes) for c in plain.outputs[1]]


def test_the_canvas_is_that_of_the_test_inputs_unless_another_is_asked_for() -> None:
    config = VoteConfig(views=2, act_steps=1)
    assert answer(*model(), TASK, VIEWS, ROWS, config).scores.side == 3
    assert answer(*model(), TASK, VIEWS, ROWS, replace(config, views=1), side=7).scores.side == 7
