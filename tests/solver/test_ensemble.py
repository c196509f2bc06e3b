"""Several models that train one task in turn."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.arc.task import make_grid
from hrm_submit.config.runtime import runtime_for
from hrm_submit.config.schema import Preset, TTTConfig
from hrm_submit.core.errors import CheckpointError, ConfigError
from hrm_submit.model.packaged import CHECKPOINTS, EnsembleMember, members
from hrm_submit.predict.vote import Candidate, Outputs
from hrm_submit.solver.messages import VOTES_AGREE, Answer, Message, Outcome, Progress, Restarted
from hrm_submit.solver.solver import Ensemble, load_members
from tests.run.fake_pool import Time
from tests.run.lab import recolour
from tests.solver.sessions import answers_of

TASK = recolour("a")


def says(colour: int, votes: int, **about: Any) -> Answer:
    outputs: Outputs = ((Candidate(make_grid([[colour]]), votes, -0.1),),)
    return Answer("a", outputs, **{"final": True, "segments": 4, "reason": "time used", "voters": votes, **about})


class Scripted:
    """Stands in for a TaskSolver: takes `takes` seconds for each message of `script`, and keeps what it was asked for."""

    def __init__(self, *script: Message, takes: float = 1.0, sides: tuple[int, int] = (1, 30)) -> None:
        self.script, self.time, self.takes = script, Time(), takes
        self.preset = Preset(ttt=TTTConfig(min_side=sides[0], max_side=sides[1]))
        self.runtime = runtime_for("cpu", self.preset.device)
        self.asked: list[tuple[float | None, int | None, int]] = []

    def solve(self, task: Any, *, seconds: float | None, segments: int | None, restart: int) -> Iterator[Message]:
        self.asked.append((seconds, segments, restart))
        for message in self.script:
            self.time.now += self.takes
            yield message


def solved(*solvers: Scripted, **limits: Any) -> list[Message]:
    """What these models say together of the task, in twelve seconds unless limits are given."""
    for solver in solvers:
        solver.time = solvers[0].time
    together = Ensemble({f"m{k}": solver for k, solver in enumerate(solvers)}, solvers[0].time)  # type: ignore[misc]
    return list(together.solve(TASK, **(limits or {"seconds": 12.0})))


def test_each_model_gets_an_equal_part_of_what_is_left_and_the_votes_are_pooled() -> None:
    one, two, three = Scripted(says(1, 2, final=False), says(1, 5)), Scripted(says(2, 6), takes=3.0), Scripted(says(1, 2))
    found = solved(one, two, three, seconds=12.0, restart=2)
    assert [solver.asked for solver in (one, two, three)] == [[(4.0, None, 2)], [(5.0, None, 2)], [(7.0, None, 2)]]
    answers = answers_of(found)  # only the last one is final
    assert [[(int(c.grid[0, 0]), c.votes) for c in a.outputs[0]] for a in answers] == [
        [(1, 2)],
        [(1, 5)],
        [(2, 6), (1, 5)],
        [(1, 7), (2, 6)],
    ]
    assert [(a.member, a.voters) for a in answers] == [("m0", 2), ("m0", 5), ("m1", 11), ("m2", 13)]


@pytest.mark.parametrize(("segments", "parts"), [(7, [2, 2, 3]), (2, [1, 1]), (1, [1])])
def test_fixed_work_is_divided_too(segments: int, parts: list[int]) -> None:
    solvers = [Scripted(says(k, 1)) for k in range(3)]
    answers_of(solved(*solvers, segments=segments))
    assert [solver.asked for solver in solvers] == [[(None, n, 0)] for n in parts] + [[]] * (3 - len(parts))


@pytest.mark.parametrize(
    ("sides", "trained"), [([(1, 2), (3, 30), (1, 30)], [1, 2]), ([(1, 3), (4, 30)], [0]), ([(4, 30), (1, 2)], [0, 1])]
)
def test_a_model_is_spared_the_sides_that_are_for_others(sides: list[tuple[int, int]], trained: list[int]) -> None:
    """The task has side 3; where it is no model's, all train it."""
    solvers = [Scripted(says(1, 5), sides=s) for s in sides]
    last = answers_of(solved(*solvers))[-1]
    assert [k for k, solver in enumerate(solvers) if solver.asked] == trained and last.voters == 5 * len(trained)


@pytest.mark.parametrize(
    ("first", "votes", "settled", "answers"), [("time used", 4, False, 2), ("time used", 6, True, 2), (VOTES_AGREE, 6, True, 1)]
)
def test_a_task_is_settled_where_all_votes_together_rank_the_same_first(first: str, votes: int, settled: bool, answers: int) -> None:
    """Once the votes of one model agree, no other trains."""
    found = answers_of(solved(Scripted(says(1, 5, reason=first, settled=True)), Scripted(says(2, votes, settled=True))))
    assert len(found) == answers and found[-1].settled is settled


def test_segments_and_seconds_of_training_add_up_until_one_restarts() -> None:
    trained = Progress("a", segments=3, loss=1.0, demo_exact=0.5, seconds=2.0)
    two = Scripted(trained, Restarted("a", "out of memory"), trained, says(2, 5))
    found = solved(Scripted(trained, says(1, 5)), two)
    told = [(m.segments, m.seconds, m.member) for m in found if isinstance(m, Progress)]
    assert told == [(3, 2.0, "m0"), (6, 4.0, "m1"), (6, 4.0, "m1")], "from where the model before it ended"
    spent = Outcome()
    for message in found:
        spent.add(message)
    assert (spent.segments, spent.seconds) == (9, 6.0), "with the training that was lost"


class Failing(Scripted):
    """Raises `error` at the end of its script."""

    def __init__(self, *script: Message, error: Exception | None = None) -> None:
        super().__init__(*script)
        self.error = error or RuntimeError("no\nroom")

    def solve(self, task: Any, **limits: Any) -> Iterator[Message]:
        yield from super().solve(task, **limits)
        raise self.error


@pytest.mark.parametrize(
    ("first", "second", "votes", "reason"),
    [
        (Scripted(says(1, 5)), Failing(says(2, 3, final=False)), [5], "m1 failed: RuntimeError: no ("),  # without its mid-run votes
        (Failing(), Scripted(says(2, 6)), [6], "time used; m0 failed: "),
        (Failing(), Failing(says(2, 3, final=False)), [3], "m0 failed: "),  # where nothing else answers, what it had
    ],
)
def test_a_model_that_fails_leaves_the_task_to_the_others(
    caplog: pytest.LogCaptureFixture, first: Scripted, second: Scripted, votes: list[int], reason: str
) -> None:
    last = answers_of(solved(first, second))[-1]
    assert last.final and not last.settled and last.reason.startswith(reason)
    assert [c.votes for c in last.outputs[0]] == votes and "task a: m" in caplog.text


def test_a_failure_is_raised_where_no_model_answers_or_none_can() -> None:
    lost, other = "it is lost", Failing()
    cases = (
        [Scripted(says(1, 5)), Failing(error=RuntimeError(f"CUDA error: {lost}"))],
        [Failing(error=RuntimeError(lost)), Scripted(replace(says(1, 5), outputs=((),)))],
        [other, Failing(error=MemoryError(lost)), other],
    )
    for solvers in cases:
        with pytest.raises((RuntimeError, MemoryError), match=lost):
            solved(*solvers)


def test_a_further_member_that_is_damaged_is_left_out(preset: Preset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = EnsembleMember("good", preset, None), EnsembleMember("bad", preset, tmp_path / "gone.safetensors")
    assert [m.name for m, _ in load_members([good, bad])] == ["good"] and "member bad is left out" in caplog.text
    with pytest.raises(CheckpointError):
        load_members([bad, good])
    built = Ensemble.of([(good, None), (replace(good, name="odd"), "no weights")], runtime_for("cpu", preset.device), 0)  # type: ignore
    assert list(built.solvers) == ["good"] and "member odd is left out" in caplog.text
    lame = Scripted()
    lame.warm_up = lambda: next(iter(()))  # type: ignore[attr-defined]
    built.solvers["lame"] = lame  # type: ignore[assignment]
    assert list(built.warm_up()) == ["good", "lame"] and list(built.solvers) == ["good"]


def test_members_have_their_own_model_and_preset_and_share_those_of_machines(tmp_path: Path) -> None:
    nano, wide = CHECKPOINTS / "nano.safetensors", CHECKPOINTS / "arc-agi-2.safetensors"
    layer, copy = tmp_path / "layer.toml", tmp_path / "nano.safetensors"
    copy.write_bytes((CHECKPOINTS / "codes.safetensors").read_bytes())

    def found(names: str, first: Path | None = nano) -> list[EnsembleMember]:
        layer.write_text(f"[vote]\nviews = 3\n[budget]\nreserve = 0.5\n[solve]\nmembers = [{names}]\n")
        return list(members(f"nano,{layer}" if first == nano else str(layer), first))

    first, second = found('"arc-agi-2"')
    assert (first.checkpoint, second.checkpoint, second.name) == (nano, wide, "arc-agi-2")
    assert second.preset.model.H_mixer == "axial" != first.preset.model.H_mixer
    assert second.preset.vote.views == 3 and second.preset.budget.reserve == 0.5, "what the named layers say holds for all"
    assert [m.checkpoint for m in found('"nano"', wide)] == [wide, nano]
    assert [m.checkpoint for m in found('"nano"', None)] == [None], "none beside random weights"
    assert [m.name for m in found(f'"nano", "{nano}", "{copy}"')] == ["nano", "nano-2"], "the same file once, and no name twice"
    assert [m.checkpoint for m in found('"nano.safetensors", "codes"')][1:] == [copy], "found beside its TOML file; the same bytes once"
    with pytest.raises(ConfigError, match="members: no weights 'nowhere'"):
        found('"nowhere"')


def test_the_packaged_weights_of_several_kinds_train_a_task_together() -> None:
    for first, *others in (("nano", "codes", "patches"), ("codes", "nano", "patches"), ("arc-agi-2", "nano", "arc-agi-2-patches")):
        assert [m.name for m in members("", CHECKPOINTS / f"{first}.safetensors")] == [first, *others]
    found = members("l4x4", CHECKPOINTS / "nano.safetensors")
    sides = [(m.name, m.preset.ttt.min_side, m.preset.ttt.max_side) for m in found]
    assert sides == [("nano", 1, 20), ("codes", 1, 30), ("patches", 21, 30)]
    wide = members("nano-2d,codes", CHECKPOINTS / "codes.safetensors")
    assert wide[0].preset.model.codes and wide[0].preset.ttt.code_dropout > 0 and not wide[1].preset.model.codes
