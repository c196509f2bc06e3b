"""Test-time training of one task, in this process: it learns, it ends on time, and its seed decides it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.core.clock import Clock
from hrm_submit.core.config import Preset
from hrm_submit.model.weights import build
from hrm_submit.predict.experts import likelihoods
from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.scores import ViewScores
from hrm_submit.predict.vote import Candidate, vote
from hrm_submit.solve import session as session_module
from hrm_submit.solve.messages import Alive, Answer, Progress
from hrm_submit.solve.session import TaskSession, n_rows, spread_views, task_seed, with_batch
from tests.predict.lab import showing
from tests.solve.fake_crew import Time
from tests.solve.lab import recolour, recoloured, tiny_preset


@pytest.fixture
def preset(tmp_path: Path) -> Preset:
    return tiny_preset(tmp_path)


def told(messages: Iterator[Any]) -> list[Progress | Answer]:
    return [m for m in messages if isinstance(m, Progress | Answer)]


def fixed(preset: Preset, task: Task, segments: int, seed: int = 0, model_seed: int = 0) -> list[Progress | Answer]:
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=model_seed)
    return told(TaskSession(model, embedding, task, preset, seed, Clock(), segments).run())


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


def test_work_is_as_fixed_as_asked(preset: Preset) -> None:
    patient = replace(preset, ttt=replace(preset.ttt, patience=1000, evaluate_every=0.125))
    messages = fixed(patient, recolour("t", 0), 16)
    answers = [m for m in messages if isinstance(m, Answer)]
    assert answers[-1].segments == 16 and answers[-1].reason == "share used"
    assert [a.final for a in answers] == [False] * (len(answers) - 1) + [True]
    assert [a.segments for a in answers[:-1]] == [2, 4, 6, 8, 10, 12, 14], "an answer at each eighth"
    assert [m.segments for m in messages if isinstance(m, Progress)] == [*range(2, 16, 2), 16]


def test_max_segments_bounds_the_work(preset: Preset) -> None:
    bounded = replace(preset, ttt=replace(preset.ttt, max_segments=7))
    final = fixed(bounded, recolour("t", 0), 1000)[-1]
    assert isinstance(final, Answer) and final.segments == 7


class SlowModel:
    """Training segments and votes that take time on a clock that a test holds, and change nothing after the first of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, time: Time, segment: float, view: float) -> None:
        self.votes: list[tuple[float, int, float]] = []
        real_train = session_module.train

        def train(*args: Any, **options: Any) -> Iterator[Any]:
            first = next(iter(real_train(*args, **options)))
            for number in count(1):
                time.now += segment
                yield replace(first, segment=number)

        def predict(model: Any, embedding: Any, requests: Any, side: int, *args: Any, **options: Any) -> ViewScores:
            start = time.now
            time.now += view * len(requests)
            self.votes.append((start, len(requests), time.now))
            return showing([None] * len(requests), [r.view for r in requests], side)

        monkeypatch.setattr(session_module, "train", train)
        monkeypatch.setattr(session_module, "score_views", predict)


def timed(preset: Preset, task: Task, share: float, time: Time) -> list[Progress | Answer]:
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=0)
    return told(TaskSession(model, embedding, task, preset, 0, Clock(share, source=time), None).run())


@pytest.mark.parametrize(("segment", "view"), [(0.5, 0.01), (0.5, 0.5), (1.0, 1.0), (0.2, 1e-6)])
def test_a_share_is_used_and_hardly_overrun(monkeypatch: pytest.MonkeyPatch, preset: Preset, segment: float, view: float) -> None:
    time = Time()
    patient = replace(preset, ttt=replace(preset.ttt, patience=1000, evaluate_every=0.25))
    slow = SlowModel(monkeypatch, time, segment, view)
    final = timed(patient, recolour("t", 0), 40.0, time)[-1]
    assert isinstance(final, Answer) and final.final
    assert time.now <= 40.0 + segment, "a segment that has begun is finished"
    # training stops where the last vote, with a quarter of room for noise, must start
    assert time.now >= 40.0 - 8 * view * 0.25 - 2 * segment - 2 * view - 0.1
    assert slow.votes[-1][1] >= min(8, int((40.0 - slow.votes[-1][0]) / (1.1 * view)))


def test_where_the_share_is_gone_before_the_first_vote_the_last_one_is_small(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    """A device so slow that one segment takes the whole share: eight views of 10 seconds each would take 80 more."""
    time = Time()
    SlowModel(monkeypatch, time, 12.0, 10.0)
    messages = timed(preset, recolour("t", 0), 12.0, time)
    final = messages[-1]
    assert isinstance(final, Answer) and final.final and final.segments == 1
    assert time.now <= 12.0 + 2 * 10.0


def test_agreement_over_several_votes_ends_a_task_early_but_a_fit_alone_does_not(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    def play(answers: list[list[int]]) -> tuple[Answer, int]:
        """The views of the k-th vote say the colours `answers[k]` (the last one again and again)."""
        votes = iter(answers)
        last = [answers[-1]]

        def predict(model: Any, embedding: Any, requests: Any, side: int, *args: Any, **options: Any) -> ViewScores:
            last[0] = next(votes, last[0])
            grids = [make_grid([[last[0][k % len(last[0])]]]) for k in range(len(requests))]
            return showing(grids, [r.view for r in requests], side)

        monkeypatch.setattr(session_module, "score_views", predict)
        messages = fixed(demanding, recolour("t", 0), 40)
        final = messages[-1]
        assert isinstance(final, Answer)
        return final, sum(isinstance(m, Answer) for m in messages)

    demanding = replace(preset, ttt=replace(preset.ttt, fit=0.0, patience=3, evaluate_every=0.125), vote=replace(preset.vote, views=8))
    final, votes = play([[1]])
    assert (final.reason, votes, final.segments) == ("votes agree", 4, 15), "three votes on the way, then the last one"
    final, votes = play([[1], [1], [2], [2], [1], [1], [1]])
    assert (final.reason, votes) == ("votes agree", 8), "the last three of seven"
    final, votes = play([[1, 2]])
    assert (final.reason, votes) == ("share used", 8), "views that differ never agree, however often they say the same"
    demanding = replace(demanding, ttt=replace(demanding.ttt, fit=0.999, lr=0.0, muon_lr=0.0, embedding_lr=0.0))
    final, _ = play([[1]])
    assert final.reason == "share used", "demonstrations that are not fit make no agreement"


def test_the_random_parts_of_a_task_do_not_touch_each_other() -> None:
    seeds = {task_seed(s, t, p) for s in (0, 1) for t in ("a", "b") for p in ("x", "y")}
    assert len(seeds) == 8 and all(0 <= s < 2**63 for s in seeds)
    assert task_seed(0, "007bbfb7", "batches") == task_seed(0, "007bbfb7", "batches")


def test_views_are_spread_over_the_transforms() -> None:
    views = [Augmentation(d) for d in (0, 0, 0, 3, 3, 5)]
    assert spread_views(views, 4) == [0, 3, 5, 1]
    assert spread_views(views, 100) == [0, 3, 5, 1, 4, 2]
    assert spread_views(views, 1) == [0], "the plain view is always among them"


def test_the_plain_view_is_always_asked(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    asked: list[list[Augmentation]] = []

    def predict(model: Any, embedding: Any, requests: Any, side: int, *args: Any, **options: Any) -> ViewScores:
        asked.append([r.view for r in requests])
        return showing([None] * len(requests), asked[-1], side)

    monkeypatch.setattr(session_module, "score_views", predict)
    fixed(preset, recolour("t", 0), 10)
    assert asked and all(views[0] == Augmentation() for views in asked)
    assert [len(views) for views in asked][-1] == 8


def test_a_smaller_batch_for_a_smaller_memory(preset: Preset) -> None:
    cut = with_batch(preset, 4)
    assert (cut.ttt.batch_size, cut.vote.batch_size) == (4, 4)
    assert replace(cut, ttt=preset.ttt, vote=preset.vote) == preset
    assert with_batch(preset, 64).ttt.batch_size == 1


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


def test_answers_tell_views_seconds_and_whether_the_task_is_settled(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    time = Time()
    with monkeypatch.context() as patch:
        SlowModel(patch, time, 0.5, 0.25)
        answers = [m for m in timed(preset, recolour("t", 0), 40.0, time) if isinstance(m, Answer)]
    assert [(a.views, a.seconds) for a in answers] == [*[(2, 0.5)] * (len(answers) - 1), (8, 2.0)]
    assert not any(a.settled for a in answers), "no view gave a grid"
    final = fixed(preset, recolour("t", 3), 150)[-1]
    assert isinstance(final, Answer) and final.settled
    unfit = replace(preset, ttt=replace(preset.ttt, fit=1.1))
    assert not fixed(unfit, recolour("t", 3), 150)[-1].settled, "agreeing on what does not fit the demonstrations is not enough"


def test_seconds_of_training_are_told_without_those_of_votes(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    """Half a second a segment, whatever votes take in between."""
    time = Time()
    SlowModel(monkeypatch, time, 0.5, 0.25)
    progress = [m for m in timed(preset, recolour("t", 0), 40.0, time) if isinstance(m, Progress)]
    assert len(progress) > 5 and [m.seconds for m in progress] == pytest.approx([0.5 * m.segments for m in progress])


def raw_votes(preset: Preset, task: Task, segments: int, restart: int = 0) -> tuple[list[RawVote], Answer]:
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=0)
    said = list(TaskSession(model, embedding, task, preset, 0, Clock(), segments, restart).run())
    final = said[-1]
    assert isinstance(final, Answer)
    return [m for m in said if isinstance(m, RawVote)], final


def with_vote(preset: Preset, **changed: Any) -> Preset:
    return replace(preset, vote=replace(preset.vote, **changed))


def test_what_the_last_vote_was_made_of_is_told_where_asked(preset: Preset) -> None:
    """All of it, and further ACT steps than the model was trained for; but the answer is the same as without."""
    task = recolour("t", 1, outputs=2)
    none, plain_answer = raw_votes(with_vote(preset, act_steps=3), task, 8)
    (raw,), answer = raw_votes(with_vote(preset, act_steps=3, save_raw=True), task, 8)
    assert none == [] and without_arrays([answer]) == without_arrays([plain_answer])
    assert (raw.task, raw.restart, raw.answer_step) == ("t", 0, 1), "the model was trained for one step"
    assert raw.scores.log_probs.shape == (16, 3, 9, 12) and raw.output.tolist() == [0] * 8 + [1] * 8
    for k, candidates in enumerate(answer.outputs):
        recount = vote(p for p in raw.of_output(k).until(raw.answer_step).predictions() if p)
        assert [(c.key, c.votes, c.score) for c in recount] == [(c.key, c.votes, c.score) for c in candidates]
    (anew,), _ = raw_votes(with_vote(preset, save_raw=True), task, 2, restart=2)
    assert anew.restart == 2 and anew.scores.steps == 1


def test_time_is_kept_for_the_steps_of_a_vote_that_is_told(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    """Votes on the way run one step, the last one four times as many."""
    time = Time()
    slow = SlowModel(monkeypatch, time, 0.5, 0.25)
    stretched = session_module.score_views

    def scored(*args: Any, every_step: bool) -> Any:
        time.now += 3 * 0.25 * len(args[2]) if every_step else 0.0
        return replace(
            stretched(*args),
            log_probs=np.zeros((len(args[2]), 4 if every_step else 1, args[3] ** 2, 12)),
            q_halt=np.zeros((len(args[2]), 4)),
        )

    monkeypatch.setattr(session_module, "score_views", scored)
    timed(with_vote(preset, save_raw=True, act_steps=4), recolour("t", 0), 60.0, time)
    assert slow.votes[-1][1] == 8, "no view was left out"
    assert 50.0 < time.now <= 60.0 + 0.5


def test_product_of_experts_ranks_every_vote(preset: Preset) -> None:
    task = recolour("t", 1, outputs=2)
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=0)
    by_experts = with_vote(preset, rule="experts", save_raw=True)
    said = list(TaskSession(model, embedding, task, by_experts, 0, Clock(), 8).run())
    (raw,), answers = [m for m in said if isinstance(m, RawVote)], [m for m in said if isinstance(m, Answer)]
    assert len(answers) > 1 and answers[-1].final
    for answer in answers:
        for candidates in answer.outputs:
            beliefs = [c.belief for c in candidates]
            assert None not in beliefs and beliefs == sorted(beliefs, reverse=True)  # type: ignore[type-var]
            assert sum(b or 0.0 for b in beliefs) == pytest.approx(sum(c.votes for c in candidates))
    for k, candidates in enumerate(answers[-1].outputs):
        found = likelihoods(raw.of_output(k), [c.grid for c in candidates]).log_probs.mean(axis=0)
        assert len(found) > 1 and list(found) == sorted(found, reverse=True)
    counted = fixed(preset, task, 8)[-1]
    assert isinstance(counted, Answer)
    assert [{c.key: c.votes for c in o} for o in counted.outputs] == [{c.key: c.votes for c in o} for o in answers[-1].outputs]
    assert [[c.key for c in o] for o in counted.outputs] != [[c.key for c in o] for o in answers[-1].outputs]


def test_evaluations_are_an_even_distance_apart(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    time = Time()
    patient = replace(preset, ttt=replace(preset.ttt, patience=1000))
    slow = SlowModel(monkeypatch, time, 0.25, 0.001)
    timed(patient, recolour("t", 0), 100.0, time)
    starts = [start for start, *_ in slow.votes]
    assert len(starts) == pytest.approx(10, abs=1)
    assert all(6 < b - a < 15 for a, b in pairwise(starts))


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
