"""Test-time training of one task, in this process: it learns, it ends when it should or must, and its seed decides it."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.task import make_grid
from hrm_submit.config.schema import Preset, TTTConfig
from hrm_submit.core.clock import Clock
from hrm_submit.model.losses import Metrics
from hrm_submit.predict import answer as answering
from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.vote import Candidate, Outputs, vote
from hrm_submit.solver import session as session_module
from hrm_submit.solver.messages import Alive, Answer, Progress
from hrm_submit.solver.session import DivergedError, DivergenceCheck, n_rows, settled_answer
from hrm_submit.train import loop
from hrm_submit.train.loop import CanvasBatch, SegmentReport, Trainer
from tests.run.lab import recolour, recoloured, tiny_preset
from tests.solver.sessions import answers_of, scripted_votes, session, set_pace, with_ttt, with_vote

TASK = recolour("t", 3)
PUBLISHED = '[model]\nembedding = "augmented"\nhalt_max_steps = 2\ncontinue_target = true\n[ttt]\nsegments = 2\n[vote]\nact_steps = 2\n'


@pytest.mark.parametrize(("more", "rows"), [("", 1), (PUBLISHED, 60)], ids=["tiny", "published, with several segments"])
def test_from_scratch_it_learns_to_recolour(tmp_path: Path, more: str, rows: int) -> None:
    made, task = tiny_preset(tmp_path, more), recolour("t", 3, outputs=2)
    assert n_rows(made) == rows
    *_, final = answers_of(session(made, task, 150).run())
    for grid, candidates in zip(task.test, final.outputs, strict=True):
        assert candidates[0].grid.tolist() == recoloured(grid).tolist()
        assert candidates[0].votes > 4, "of eight views"


def test_work_is_as_fixed_as_asked(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    set_pace(monkeypatch, report_every=0.125, vote_growth=2.0)
    messages = list(session(with_ttt(preset, patience=1000, first_vote=0.125), recolour("t", 0), 16).run())
    answers = answers_of(messages)
    assert answers[-1].segments == 16 and answers[-1].reason == "segments done"
    assert [a.segments for a in answers[:-1]] == [2, 4, 8], "each answer twice as late as the one before"
    assert [m.segments for m in messages if isinstance(m, Progress)] == [*range(2, 16, 2), 16]
    last = answers_of(session(with_ttt(preset, max_segments=7), recolour("t", 0), 1000).run())[-1]
    assert (last.segments, last.reason) == (7, "segments done")


@pytest.mark.parametrize("segments", [None, 1000])
def test_the_rate_falls_until_the_most_segments_where_those_come_before_the_end_of_the_time(
    monkeypatch: pytest.MonkeyPatch, preset: Preset, segments: int | None
) -> None:
    """A clock that stands still has time for any number of segments."""
    factors, original = list[float](), loop.rate_factor
    monkeypatch.setattr(loop, "rate_factor", lambda *args: factors.append(original(*args)) or factors[-1])
    limited = with_ttt(preset, max_segments=8, patience=1000, warmup_steps=0, decay_fraction=0.5, lr_min_ratio=0.0)
    clock = Clock() if segments else Clock(1000.0, source=lambda: 0.0)
    last = answers_of(session(limited, recolour("t", 0), segments, clock=clock).run())[-1]
    assert (last.segments, last.reason) == (8, "segments done")
    assert factors[:5] == [1.0] * 5 and factors[5:] == sorted(factors[5:], reverse=True) and 0.0 < factors[-1] < 0.5


@pytest.mark.parametrize(("translate", "side"), [(True, 6), (False, 2)])
def test_a_test_input_is_shown_on_a_canvas_as_in_training(
    monkeypatch: pytest.MonkeyPatch, preset: Preset, translate: bool, side: int
) -> None:
    small, large = recolour("t", 0, side=2), recolour("t", 1, side=6)
    seen, original = set[int](), answering.score_views
    monkeypatch.setattr(answering, "score_views", lambda *args, **options: seen.add(args[3]) or original(*args, **options))
    list(session(with_ttt(preset, translate=translate), replace(small, train=small.train + large.train[:1]), 2).run())
    assert seen == {side}


def outputs(*votes: tuple[int, int]) -> Outputs:
    """One test output, whose candidates are 1x1 grids of (colour, votes), best first."""
    return (tuple(Candidate(make_grid([[colour]]), n, -0.1) for colour, n in votes),)


AGREED, SPLIT = outputs((1, 9), (2, 1)), outputs((1, 8), (2, 2))


@pytest.mark.parametrize(
    ("found", "exact", "settled"),
    [
        (AGREED + outputs((2, 10)), 0.9, True),
        (SPLIT, 0.9, False),  # views that differ
        (outputs(), 0.9, False),  # no view gave a grid
        (AGREED + SPLIT, 0.9, False),  # every output must be settled
        (AGREED, 0.89, False),  # demonstrations that are not fit
    ],
)
def test_an_answer_is_settled_by_agreeing_views_of_fit_demonstrations(found: Outputs, exact: float, settled: bool) -> None:
    answer = settled_answer(found, exact, TTTConfig(agreement=0.9, fit=0.9))
    assert answer == (tuple(candidates[0].key for candidates in found) if settled else ())


@pytest.mark.parametrize(
    ("votes", "n", "segments"),
    [
        ([[1]], 3, 7),  # after 4, 5 and 7 segments
        ([[1], [1], [2], [2], [1]], 7, 19),
        ([[1, 2]], 10, 40),  # views that differ never agree, however often they say the same
    ],
)
def test_mid_run_votes_that_settle_the_same_answer_end_a_session(
    monkeypatch: pytest.MonkeyPatch, preset: Preset, votes: list[list[int]], n: int, segments: int
) -> None:
    set_pace(monkeypatch, report_every=0.1, vote_growth=1.25)
    asked = scripted_votes(monkeypatch, votes)
    demanding = with_vote(with_ttt(preset, fit=0.0, agreement=0.9, patience=3, first_vote=0.1), views=8)
    answers = answers_of(session(demanding, recolour("t", 0), 40).run())
    assert (len(answers), answers[-1].segments) == (n + 1, segments)
    assert answers[-1].reason == ("votes agree" if segments < 40 else "segments done")
    assert [len(views) for views in asked] == [2] * n + [8] and all(views[0] == Augmentation() for views in asked), "always the plain view"


@pytest.mark.parametrize("pool_exact", [0.0, 2.0])
def test_mid_run_votes_count_with_the_last_if_demonstrations_are_fit(
    monkeypatch: pytest.MonkeyPatch, preset: Preset, pool_exact: float
) -> None:
    votes = [[1], [1, 2], [2, 3], [4]]
    asked = scripted_votes(monkeypatch, votes)
    set_pace(monkeypatch, report_every=0.1, vote_growth=2.0)
    pooling = with_ttt(preset, fit=0.0, agreement=1.0, patience=9, first_vote=0.125, pool_exact=pool_exact)
    answers = answers_of(session(with_vote(pooling, views=8, rule="counts"), recolour("t", 0), 16).run())
    assert [len(views) for views in asked] == [2, 2, 2, 8] and len(answers) == 4
    said = [Counter(votes[n][k % len(votes[n])] for k in range(len(views))) for n, views in enumerate(asked)]
    for n, answer in enumerate(answers):
        counted = sum(said[: n + 1], Counter[int]()) if pool_exact == 0 else said[n]
        assert {int(c.grid[0, 0]): c.votes for c in answer.outputs[0]} == counted
        assert (answer.views, answer.voters) == (len(asked[n]), counted.total())
    assert [a.settled for a in answers] == [True, False, False, True], "of the newest vote alone"


def votes_of(outputs: Any) -> list[Any]:
    return [[(c.key, c.votes, c.score) for c in output] for output in outputs]


def test_a_long_vote_gives_a_sign_of_life_before_each_batch(preset: Preset) -> None:
    """Eight views of two test inputs in batches of three: six of them; and an answer that does not depend on it."""
    finals = []
    for size, batches in ((3, 6), (100, 1)):
        said = list(session(with_vote(preset, batch_size=size), recolour("t", 2, outputs=2), 6).run())
        last = max(k for k, m in enumerate(said) if isinstance(m, Progress))
        assert [type(m) for m in said[last + 1 :]] == [Alive] * batches + [Answer]
        finals.append(votes_of(said[-1].outputs))  # type: ignore[union-attr]
    assert finals[0] == finals[1]


def test_the_raw_last_vote_is_told_if_asked(preset: Preset) -> None:
    """All of it; and the answer is the same as without."""
    task, alone = recolour("t", 1, outputs=2), with_vote(with_ttt(preset, first_vote=1.0), act_steps=3, rule="counts")
    (plain,) = answers_of(session(alone, task, 8, restart=2).run())
    *_, raw, answer = session(with_vote(alone, save_raw=True), task, 8, restart=2).run()
    assert isinstance(raw, RawVote) and isinstance(answer, Answer)
    assert replace(answer, outputs=(), seconds=0.0) == replace(plain, outputs=(), seconds=0.0)
    assert (raw.task, raw.restart) == ("t", 2)
    assert raw.scores.log_probs.shape == (16, 9, 12) and raw.output.tolist() == [0] * 8 + [1] * 8
    recount = [vote(p for p in raw.of_output(k).predictions() if p) for k in (0, 1)]
    assert votes_of(recount) == votes_of(answer.outputs) == votes_of(plain.outputs)


@pytest.mark.parametrize(
    ("losses", "fails_at", "fault"),
    [
        ([1.0, 0.5, 1.6, 1.4, 1.6, 1.7], 6, "the loss rose from 1 to 1.7"),  # neither once, nor twice with a better one between
        ([1.0, 1.4, 1.4, 1.45, 1.49, 1.3, 1.2], None, ""),  # less than half more
        ([0.02, 0.03, 0.04, 0.14, 0.14], None, ""),  # what the weights know well
        ([0.02, 0.16, 0.16], 3, "the loss rose from 0.02 to 0.16"),
        ([1.0, 0.9, float("nan")], 3, "the loss is not finite"),
        ([1.0, float("inf")], 2, "the loss is not finite"),
    ],
)
def test_a_loss_that_rises_by_half_twice_in_a_row_or_is_no_number_has_diverged(
    losses: list[float], fails_at: int | None, fault: str
) -> None:
    check, raises = DivergenceCheck(), pytest.raises(DivergedError, match=f"^{fault}$")
    for n, loss in enumerate(losses, 1):
        with raises if n == fails_at else nullcontext():
            check.check(loss, loss)


class Scripted(Trainer):
    """Segments whose last loss is not finite."""

    def run(self, batches: Iterator[CanvasBatch], progress: Callable[[], float]) -> Iterator[SegmentReport]:
        none = torch.tensor(0.0)
        for number in range(1, 17):
            loss = torch.tensor(1.0 if number < 16 else float("nan"))
            yield SegmentReport(number, 4, 9, loss, Metrics(torch.tensor(4), none, none, none, none, 4 * loss, none, None))


def test_the_last_look_before_the_vote_counts_too(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    monkeypatch.setattr(session_module, "Trainer", Scripted)
    set_pace(monkeypatch, report_every=0.125, vote_growth=1.6)
    seen = list[int]()
    with pytest.raises(DivergedError, match="the loss is not finite"):
        seen.extend(m.segments for m in session(with_ttt(preset, first_vote=1.0), TASK, 16).run() if isinstance(m, Progress))
    assert seen == list(range(2, 17, 2))


def test_learning_fast_is_not_diverging(preset: Preset) -> None:
    """A fresh model believes that no answer is ever right: its halt value's loss rises with every one that is."""
    halting = replace(preset, model=replace(preset.model, halt_max_steps=2))
    progress = [m for m in session(halting, recolour("task01", 1), 24).run() if isinstance(m, Progress)]
    assert max(m.demo_exact for m in progress) > 0.9
    assert max(m.loss for m in progress) > 1.5 * progress[0].loss, "the example must show it"


def drawn(monkeypatch: pytest.MonkeyPatch, preset: Preset, **how: int) -> tuple[list[Any], list[Any]]:
    """Views of the last vote, and inputs of the first three batches."""
    inputs: list[Any] = []
    real = session_module.task_batches

    def kept(*args: Any) -> Iterator[CanvasBatch]:
        for batch in real(*args):
            inputs.append(batch.batch.inputs.tolist())
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(session_module, "task_batches", kept)
        asked = scripted_votes(patch, [[1]])
        list(session(with_ttt(preset, colours="permute"), TASK, 4, **how).run())
    return asked[-1], inputs[:3]


def test_a_restart_has_other_views_and_other_batches(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    first, second, third = (drawn(monkeypatch, preset, restart=restart) for restart in (0, 1, 2))
    for one, other in ((first, second), (first, third), (second, third)):
        assert one[0][0] == other[0][0], "the plain view is always among them"
        assert one[0][1:] != other[0][1:] and one[1] != other[1]
    assert drawn(monkeypatch, preset, restart=1) == second, "but the same ones whenever it is done"
