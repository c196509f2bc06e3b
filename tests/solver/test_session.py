"""Test-time training of one task, in this process: it learns, it ends when it should, and its seed decides it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.model.weights import build
from hrm_submit.predict import answer as answer_module
from hrm_submit.predict.rank import rank
from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.scores import ViewScores
from hrm_submit.predict.vote import Candidate, ranked, vote
from hrm_submit.solver import session as session_module
from hrm_submit.solver.messages import Alive, Answer, Progress
from hrm_submit.solver.session import TaskSession, n_rows, task_seed
from tests.predict.lab import showing
from tests.run.lab import recolour, recoloured, tiny_preset
from tests.solver.sessions import fixed, told, with_vote


@pytest.fixture
def preset(tmp_path: Path) -> Preset:
    return tiny_preset(tmp_path)


def identity_task(seed: int = 0) -> Task:
    rng = np.random.default_rng(seed)
    grids = [make_grid(rng.integers(0, 4, (3, 3))) for _ in range(6)]
    return Task("same", tuple(Pair(g, g) for g in grids[:5]), (grids[5],))


def test_from_scratch_it_learns_to_recolour(preset: Preset) -> None:
    task = recolour("t", 3, outputs=2)
    final = fixed(preset, task, 120)[-1]
    assert isinstance(final, Answer) and final.final and len(final.outputs) == 2
    for grid, candidates in zip(task.test, final.outputs, strict=True):
        assert candidates[0].grid.tolist() == recoloured(grid).tolist()
        assert candidates[0].votes > 4, "of eight views"


def test_from_scratch_it_learns_to_copy(preset: Preset) -> None:
    task = identity_task()
    final = fixed(preset, task, 120)[-1]
    assert isinstance(final, Answer)
    assert final.outputs[0][0].grid.tolist() == task.test[0].tolist()


def test_the_published_embedding_with_several_segments_learns_too(tmp_path: Path) -> None:
    published = tiny_preset(
        tmp_path,
        '[model]\nembedding = "augmented"\nhalt_max_steps = 2\ncontinue_target = true\n[ttt]\nsegments = 2\n[vote]\nact_steps = 2\n',
    )
    task = recolour("t", 3)
    assert n_rows(published) == 60
    final = fixed(published, task, 150)[-1]
    assert isinstance(final, Answer)
    assert final.outputs[0][0].grid.tolist() == recoloured(task.test[0]).tolist()


def without_arrays(messages: list[Progress | Answer]) -> list[Any]:
    def plain(c: Candidate) -> Any:
        return c.grid.tolist(), c.votes, c.score

    def timeless(m: Progress | Answer) -> Any:
        return m if isinstance(m, Progress) else replace(m, outputs=tuple(tuple(plain(c) for c in o) for o in m.outputs))

    return [replace(timeless(m), seconds=0.0) for m in messages]


def test_the_same_seed_gives_the_same_and_another_another(preset: Preset) -> None:
    task = recolour("t", 1)
    first, again, other = (without_arrays(fixed(preset, task, 12, seed=s)) for s in (5, 5, 6))
    assert first == again
    assert first != other


def every(monkeypatch: pytest.MonkeyPatch, *, report: float, growth: float) -> None:
    monkeypatch.setattr(session_module, "REPORT_EVERY", report)
    monkeypatch.setattr(session_module, "VOTE_GROWTH", growth)


def test_work_is_as_fixed_as_asked(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    every(monkeypatch, report=0.125, growth=2.0)
    patient = replace(preset, ttt=replace(preset.ttt, patience=1000, first_vote=0.125))
    messages = fixed(patient, recolour("t", 0), 16)
    answers = [m for m in messages if isinstance(m, Answer)]
    assert answers[-1].segments == 16 and answers[-1].reason == "share used"
    assert [a.final for a in answers] == [False] * (len(answers) - 1) + [True]
    assert [a.segments for a in answers[:-1]] == [2, 4, 8], "each answer twice as late as the one before"
    assert [m.segments for m in messages if isinstance(m, Progress)] == [*range(2, 16, 2), 16]


def test_max_segments_bounds_the_work(preset: Preset) -> None:
    bounded = replace(preset, ttt=replace(preset.ttt, max_segments=7))
    final = fixed(bounded, recolour("t", 0), 1000)[-1]
    assert isinstance(final, Answer) and final.segments == 7


def test_agreement_over_several_votes_ends_a_task_early_but_a_fit_alone_does_not(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    def play(answers: list[list[int]]) -> tuple[Answer, int]:
        """The views of the k-th vote say the colours `answers[k]` (the last one again and again)."""
        votes = iter(answers)
        last = [answers[-1]]

        def predict(model: Any, embedding: Any, requests: Any, side: int, *args: Any, **options: Any) -> ViewScores:
            last[0] = next(votes, last[0])
            grids = [make_grid([[last[0][k % len(last[0])]]]) for k in range(len(requests))]
            return showing(grids, [r.view for r in requests], side)

        monkeypatch.setattr(answer_module, "score_views", predict)
        messages = fixed(demanding, recolour("t", 0), 40)
        final = messages[-1]
        assert isinstance(final, Answer)
        return final, sum(isinstance(m, Answer) for m in messages)

    every(monkeypatch, report=0.1, growth=1.25)
    demanding = replace(preset, ttt=replace(preset.ttt, fit=0.0, patience=3, first_vote=0.1), vote=replace(preset.vote, views=8))
    final, votes = play([[1]])
    assert (final.reason, votes, final.segments) == ("votes agree", 4, 7), "after 4, 5 and 7 of 40 segments, then the last one"
    final, votes = play([[1], [1], [2], [2], [1], [1], [1]])
    assert (final.reason, votes) == ("votes agree", 8), "the last three of seven"
    final, votes = play([[1, 2]])
    assert (final.reason, votes) == ("share used", 11), "views that differ never agree, however often they say the same"
    demanding = replace(demanding, ttt=replace(demanding.ttt, fit=0.999, lr=0.0, muon_lr=0.0, embedding_lr=0.0))
    final, _ = play([[1]])
    assert final.reason == "share used", "demonstrations that are not fit make no agreement"


@pytest.mark.parametrize("pool_exact", [0.0, 2.0])
def test_votes_on_the_way_count_with_the_last_where_demonstrations_are_fit(
    monkeypatch: pytest.MonkeyPatch, preset: Preset, pool_exact: float
) -> None:
    colours, asked = iter([[1], [1, 2], [2, 3], [4]]), []

    def predict(model: Any, embedding: Any, requests: Any, side: int, *args: Any, **options: Any) -> ViewScores:
        says = next(colours)
        asked.append([says[k % len(says)] for k in range(len(requests))])
        return showing([make_grid([[c]]) for c in asked[-1]], [r.view for r in requests], side)

    monkeypatch.setattr(answer_module, "score_views", predict)
    every(monkeypatch, report=0.1, growth=2.0)
    ttt = replace(preset.ttt, fit=0.0, agreement=1.0, patience=9, first_vote=0.125, pool_exact=pool_exact)
    messages = fixed(replace(with_vote(preset, views=8, rule="counts"), ttt=ttt), recolour("t", 0), 16)
    answers = [m for m in messages if isinstance(m, Answer)]
    assert [len(a) for a in asked] == [2, 2, 2, 8] and len(answers) == 4
    for n, answer in enumerate(answers, start=1):
        said = Counter(c for vote in (asked[:n] if pool_exact == 0 else asked[n - 1 : n]) for c in vote)
        assert {int(c.grid[0, 0]): c.votes for c in answer.outputs[0]} == said
        assert (answer.views, answer.voters) == (len(asked[n - 1]), said.total())
    assert [a.settled for a in answers] == [True, False, False, True], "of the newest vote alone"


def test_the_random_parts_of_a_task_do_not_touch_each_other() -> None:
    seeds = {task_seed(s, t, p) for s in (0, 1) for t in ("a", "b") for p in ("x", "y")}
    assert len(seeds) == 8 and all(0 <= s < 2**63 for s in seeds)
    assert task_seed(0, "007bbfb7", "batches") == task_seed(0, "007bbfb7", "batches")


def test_the_plain_view_is_always_asked(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    asked: list[list[Augmentation]] = []

    def predict(model: Any, embedding: Any, requests: Any, side: int, *args: Any, **options: Any) -> ViewScores:
        asked.append([r.view for r in requests])
        return showing([None] * len(requests), asked[-1], side)

    monkeypatch.setattr(answer_module, "score_views", predict)
    fixed(preset, recolour("t", 0), 10)
    assert asked and all(views[0] == Augmentation() for views in asked)
    assert [len(views) for views in asked][-1] == 8


def test_a_long_vote_gives_a_sign_of_life_before_each_batch(preset: Preset) -> None:
    """Eight views of two test inputs in batches of three: six of them; and an answer that does not depend on it."""
    task, finals = recolour("t", 2, outputs=2), []
    for size, batches in ((3, 6), (100, 1)):
        cut = replace(preset, vote=replace(preset.vote, batch_size=size))
        model, embedding = build(cut.model, n_rows=n_rows(cut), seed=0)
        said = list(TaskSession(model, embedding, task, cut, 0, Clock(), 6).run())
        last = max(k for k, m in enumerate(said) if isinstance(m, Progress))
        assert [type(m) for m in said[last + 1 :]] == [Alive] * batches + [Answer]
        finals.append(votes_of(said[-1]))
    assert finals[0] == finals[1]


def votes_of(answer: Any) -> list[list[tuple[Any, int]]]:
    return [[(c.grid.tolist(), c.votes) for c in output] for output in answer.outputs]


def raw_votes(preset: Preset, task: Task, segments: int, restart: int = 0) -> tuple[list[RawVote], Answer]:
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=0)
    said = list(TaskSession(model, embedding, task, preset, 0, Clock(), segments, restart).run())
    final = said[-1]
    assert isinstance(final, Answer)
    return [m for m in said if isinstance(m, RawVote)], final


def alone(preset: Preset) -> Preset:
    """With a last vote and none on the way."""
    return replace(preset, ttt=replace(preset.ttt, first_vote=1.0))


def test_what_the_last_vote_was_made_of_is_told_where_asked(preset: Preset) -> None:
    """All of it, and further ACT steps than the model was trained for; but the answer is the same as without."""
    task = recolour("t", 1, outputs=2)
    none, plain_answer = raw_votes(with_vote(alone(preset), act_steps=3, rule="counts"), task, 8)
    (raw,), answer = raw_votes(with_vote(alone(preset), act_steps=3, rule="counts", save_raw=True), task, 8)
    assert none == [] and without_arrays([answer]) == without_arrays([plain_answer])
    assert (raw.task, raw.restart, raw.answer_step) == ("t", 0, 1), "the model was trained for one step"
    assert raw.scores.log_probs.shape == (16, 3, 9, 12) and raw.output.tolist() == [0] * 8 + [1] * 8
    for k, candidates in enumerate(answer.outputs):
        recount = vote(p for p in raw.of_output(k).until(raw.answer_step).predictions() if p)
        assert [(c.key, c.votes, c.score) for c in recount] == [(c.key, c.votes, c.score) for c in candidates]
    (anew,), _ = raw_votes(with_vote(preset, save_raw=True), task, 2, restart=2)
    assert anew.restart == 2 and anew.scores.steps == 1


@pytest.mark.parametrize("on_the_way", [False, True])
def test_every_vote_is_ranked_by_the_rule_of_the_preset(preset: Preset, on_the_way: bool) -> None:
    task, preset = recolour("t", 1, outputs=2), preset if on_the_way else alone(preset)
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=0)
    composed = with_vote(preset, rule="composite", save_raw=True)
    said = list(TaskSession(model, embedding, task, composed, 0, Clock(), 8).run())
    (raw,), answers = [m for m in said if isinstance(m, RawVote)], [m for m in said if isinstance(m, Answer)]
    assert (len(answers) > 1) == on_the_way and answers[-1].final
    for candidates in (c for answer in answers for c in answer.outputs):
        assert [c.key for c in ranked(candidates)] == [c.key for c in candidates]
    if on_the_way:
        for candidates in answers[0].outputs:
            assert sum(c.weight for c in candidates) == pytest.approx(1.1 * sum(c.votes for c in candidates))
        return
    for k, candidates in enumerate(answers[-1].outputs):
        assert [(c.key, c.weight) for c in rank(raw.of_output(k), "composite")] == [(c.key, c.weight) for c in candidates]
    counted = fixed(with_vote(preset, rule="counts"), task, 8)[-1]
    assert isinstance(counted, Answer)
    shown = [{c.key: c.votes for c in o if c.votes} for o in answers[-1].outputs]
    assert [{c.key: c.votes for c in o} for o in counted.outputs] == shown


def test_training_leaves_the_model_usable_for_the_next_task(preset: Preset) -> None:
    """The same model, set back to its first weights, gives the same answers whatever it was trained on in between."""
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=0)
    start = [{k: v.clone() for k, v in m.state_dict().items()} for m in (model, embedding)]

    def solve(task: Task) -> list[Any]:
        for module, state in zip((model, embedding), start, strict=True):
            module.load_state_dict(state)
        return without_arrays(told(TaskSession(model, embedding, task, preset, 0, Clock(), 10).run()))

    first = solve(recolour("a", 0))
    solve(recolour("b", 1))
    assert solve(recolour("a", 0)) == first
    assert all(torch.isfinite(p).all() for p in model.parameters())
