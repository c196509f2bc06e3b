"""What is to be done next and for how long: by hand, one question after the other, without a worker or a clock."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest

from hrm_submit.arc.task import Task, make_grid
from hrm_submit.config.schema import BudgetConfig, Preset
from hrm_submit.predict.vote import Candidate, Outputs, ranked
from hrm_submit.run.protocol import Assignment
from hrm_submit.run.scheduler import Result, Scheduler, Standing
from hrm_submit.solver.messages import Answer, Progress
from tests.run.lab import recolour

EQUAL = Preset(budget=BudgetConfig(size_power=0.0, pairs_power=0.0))
"""The same seconds for every task."""


class Hands:
    """A scheduler, and workers `0 .. n - 1` whose clock and answers a test gives by hand."""

    def __init__(
        self,
        tasks: Sequence[Task] | int,
        end: float = 100.0,
        devices: Sequence[str] = ("cpu",),
        segments: int | None = None,
        preset: Preset = EQUAL,
    ) -> None:
        self.tasks = [recolour(f"t{k}", k) for k in range(tasks)] if isinstance(tasks, int) else list(tasks)
        self.scheduler = Scheduler(self.tasks, preset, end, segments)
        self.devices = list(devices)
        self.free_at = [0.0] * len(self.devices)
        self.held: dict[int, Assignment] = {}

    def next(self, now: float, worker: int = 0) -> Assignment | None:
        standings = [Standing(k, device, self.free_at[k]) for k, device in enumerate(self.devices)]
        me = standings.pop(worker)
        given = self.scheduler.next(me, standings, now)
        if given is not None:
            self.held[worker] = given
            self.free_at[worker] = now + (given.seconds or 0.0)
        return given

    def take(self, now: float, worker: int = 0) -> tuple[str, float]:
        """The task that comes next and its seconds."""
        given = self.next(now, worker)
        assert given is not None
        return given.task.id, given.seconds or 0.0

    def finish(self, now: float, worker: int = 0, votes: Sequence[int] = (9,), settled: bool = False, seconds: float = 0.0) -> Outputs:
        """The k-th colour gets `votes[k]` votes for every output, after `seconds` of work; returns what all votes of the task say."""
        held = self.held.pop(worker)
        self.free_at[worker] = now
        candidates = tuple(ranked(Candidate(make_grid([[colour]]), n, -0.5) for colour, n in enumerate(votes)))
        answer = Answer(held.task.id, tuple(candidates for _ in held.task.test), True, 10, "share used", settled)
        return self.scheduler.finished(worker, answer, seconds)

    def progress(self, segments: int, seconds: float, worker: int = 0, exact: float = 0.0) -> None:
        self.scheduler.progress(worker, Progress(self.held[worker].task.id, segments, 1.0, exact, seconds))

    def fail(self, now: float, worker: int = 0, memory: bool = False) -> bool:
        del self.held[worker]
        self.free_at[worker] = now
        return self.scheduler.failed(worker, memory=memory)


def test_shares_grow_with_size_and_pairs_as_the_preset_says() -> None:
    many, few = recolour("a", 0), recolour("b", 1)
    few = replace(few, train=few.train[:1])
    hands = Hands([many, few], preset=replace(EQUAL, budget=BudgetConfig(size_power=0.0, pairs_power=1.0)))
    assert hands.take(0.0) == ("a", pytest.approx(80.0)), "four pairs against one"
    large, small = recolour("a", 0, side=9), recolour("b", 1, side=3)
    by_size = Hands([large, small], preset=replace(EQUAL, budget=BudgetConfig(size_power=1.0, pairs_power=0.0)))
    task, seconds = by_size.take(0.0)
    assert task == "a"
    # 81 cells against 9, and a token of the task's own each; attention makes the larger one's cells a little dearer still
    assert 100 * 82 / 92 < seconds < 100 * 82 / 92 * 1.03


def test_measured_seconds_of_a_segment_take_the_place_of_operations() -> None:
    """A device that takes 1 s for a segment of either size, so that what one segment costs is the same for all."""
    tasks = [recolour(f"t{k}", k, side=side) for k, side in enumerate((9, 6, 4, 3))]
    hands = Hands(tasks, preset=replace(EQUAL, budget=BudgetConfig(size_power=1.0, pairs_power=0.0)), end=1000.0)
    hands.scheduler.progress(0, Progress("t0", 5, 1.0, 0.0, 5.0))
    _, first = hands.take(0.0)
    hands.scheduler.progress(0, Progress("t1", 5, 1.0, 0.0, 5.0))
    assert first > 500
    assert hands.scheduler.segment_seconds("t0", "cpu") == 0.0, "reports on a task that a worker does not have teach nothing"
    hands.progress(4, 4.0)
    hands.progress(10, 10.0)
    hands.finish(10.0, settled=True, seconds=first)
    hands.take(10.0)
    hands.progress(8, 8.0)
    hands.finish(20.0, settled=True, seconds=1000.0)
    assert hands.scheduler.segment_seconds("t3", "cpu") == pytest.approx(1.0, rel=1e-3)
    assert hands.scheduler.segment_seconds("t3", "cuda:0") == 0.0, "another kind of device"
    assert hands.take(20.0) == ("t2", pytest.approx(490.0, rel=1e-3)), "half of what is left for one of the last two"


def test_what_a_task_gives_back_is_kept_for_those_that_disagree() -> None:
    hands = Hands(3, end=90.0)
    assert hands.take(0.0) == ("t0", 30.0)
    hands.finish(10.0, settled=True, seconds=10.0)
    assert hands.scheduler.bank == 20.0
    assert hands.take(10.0) == ("t1", 30.0), "not 40, as an equal part of what is left would be"
    hands.finish(40.0, votes=(2, 2), seconds=30.0)
    assert hands.take(40.0) == ("t2", 30.0)
    hands.finish(70.0, settled=True, seconds=30.0)
    again = hands.next(70.0)
    assert again is not None and (again.task.id, again.seconds, again.restart) == ("t1", 20.0, 1)


def test_a_retrain_promises_as_much_as_all_outputs_on_which_votes_differ() -> None:
    sure, split, mild = (
        tuple(Candidate(make_grid([[colour]]), n, -0.5) for colour, n in enumerate(votes)) for votes in ((9,), (5, 4), (8, 1))
    )
    promise = {
        name: Result(outputs, False, 10.0, 1.0).promise
        for name, outputs in (
            ("one of two", (sure, split)),
            ("one", (split,)),
            ("both", (split, split)),
            ("hardly", (mild,)),
            ("none", (sure, sure)),
        )
    }
    assert promise["both"] > promise["one of two"] == promise["one"] > promise["hardly"] > promise["none"] == 0.0


def test_trainings_anew_are_twice_as_long_each_time_and_fill_the_time() -> None:
    """A share of 10 s, and 81 s left: 10 + 20 + 40 fit, another 80 do not, so the three are stretched to 81 s."""
    hands, at, given = ten_tasks_of_which_the_last_disagrees(10.0), 19.0, []
    while (again := hands.next(at)) is not None:
        given.append((again.task.id, again.restart, again.seconds))
        at += again.seconds or 0.0
        hands.finish(at, votes=(3, 2), seconds=again.seconds or 0.0)
    assert at == pytest.approx(100.0)
    assert [(task, restart) for task, restart, _ in given] == [("t9", 1), ("t9", 2), ("t9", 3)]
    assert [seconds for *_, seconds in given] == pytest.approx([81 / 7, 2 * 81 / 7, 4 * 81 / 7])


def test_trainings_that_end_early_thousands_of_times_still_get_a_share_that_is_a_number() -> None:
    """As at a preset's most segments on a device that is fast."""
    hands = Hands(1)
    hands.take(0.0)
    at = 1.0
    hands.finish(at, votes=(3, 2), seconds=1.0)
    for _ in range(3000):
        again = hands.next(at)
        assert again is not None and 0 < (again.seconds or 0.0) <= 100.0 - at
        at += 0.01
        hands.finish(at, votes=(3, 2), seconds=0.01)


@pytest.mark.parametrize(
    ("votes", "exact", "expected"),
    [
        ({"t0": (8, 1), "t1": (5, 4), "t3": (7, 2)}, {}, ["t1", "t3", "t0"]),
        ({"t0": (3, 2), "t1": (3, 2), "t2": (3, 2)}, {"t1": 1.0, "t2": 0.5}, ["t1", "t2", "t0"]),
    ],
    ids=["evenly split votes", "equally split votes: fitted demonstrations"],
)
def test_first_come_those_that_another_training_may_change_most(
    votes: dict[str, Sequence[int]], exact: dict[str, float], expected: list[str]
) -> None:
    """Each task has a second, and those in `votes` disagree; then each of these is trained anew once before any is twice."""
    hands = Hands(4)
    for at in range(4):
        task, _ = hands.take(float(at))
        hands.progress(5, 0.5, exact=exact.get(task, 0.0))
        hands.finish(at + 1.0, votes=votes.get(task, (9,)), settled=task not in votes, seconds=1.0)
    order = []
    for at in (4.0, 9.0, 14.0):
        order.append(hands.take(at)[0])
        hands.finish(at + 5.0, votes=(5, 4), seconds=5.0)
    assert order == expected


def ten_tasks_of_which_the_last_disagrees(last_seconds: float) -> Hands:
    """Each is given 10 s of 100 and takes one, the last one `last_seconds`."""
    hands = Hands(10)
    for k in range(10):
        hands.take(float(k))
        hands.finish(k + 1.0, settled=k < 9, votes=(3, 2), seconds=1.0 if k < 9 else last_seconds)
    return hands


@pytest.mark.parametrize(("left", "again"), [(4.9, False), (5.1, True)])
def test_what_is_too_little_to_train_anew_stays_unused(left: float, again: bool) -> None:
    """At least half of the first share, which was 10 s."""
    hands = ten_tasks_of_which_the_last_disagrees(1.0)
    assert hands.scheduler.results["t9"].share == pytest.approx(10.0)
    assert (hands.next(100.0 - left) is not None) is again


@pytest.mark.parametrize(
    ("newest", "settled", "open_still", "together"),
    [
        ((100,), True, False, [(0, 104), (1, 2)]),
        ((100,), False, True, [(0, 104), (1, 2)]),
        ((0, 1), True, True, [(0, 4), (1, 3)]),
        ((0, 5, 1), True, False, [(1, 7), (0, 4), (2, 1)]),
    ],
)
def test_all_votes_of_a_task_count_together_and_settle_it_once_its_newest_agree_on_what_they_rank_first(
    newest: tuple[int, ...], settled: bool, open_still: bool, together: list[tuple[int, int]]
) -> None:
    hands = Hands(1)
    hands.take(0.0)
    hands.finish(1.0, votes=(4, 2), seconds=1.0)
    assert hands.scheduler.open
    hands.take(1.0)
    outputs = hands.finish(2.0, votes=newest, settled=settled, seconds=1.0)
    assert [(int(c.grid[0, 0]), c.votes) for c in outputs[0]] == together
    assert hands.scheduler.open == open_still and (hands.next(2.0) is not None) == open_still


def test_no_other_training_follows_one_that_failed_though_another_ends_well() -> None:
    hands = Hands(1, devices=("cpu", "cpu"))
    hands.take(0.0)
    hands.finish(1.0, votes=(3, 2), seconds=1.0)
    assert [hands.take(1.0, worker)[0] for worker in (0, 1)] == ["t0", "t0"]
    assert hands.fail(2.0, 0) is False and not hands.scheduler.open
    hands.finish(3.0, 1, votes=(3, 2), seconds=2.0)
    assert not hands.scheduler.open and hands.next(3.0, 0) is None


@pytest.mark.parametrize("free_at", [84.0, 86.0])
def test_a_lost_task_waits_for_another_device_if_one_is_free_soon(free_at: float) -> None:
    """Of the 20 s that are left it waits for a quarter."""
    hands = Hands(2, devices=("cuda:0", "cuda:1"))
    hands.take(0.0, 0)
    hands.take(0.0, 1)
    assert hands.fail(80.0, 0) is True
    hands.free_at[1] = free_at
    again = hands.next(80.0, 0)
    if free_at > 85.0:
        assert again is not None and (again.task.id, again.seconds) == ("t0", pytest.approx(20.0)), "there is nobody else"
        return
    assert again is None
    hands.finish(84.0, 1, settled=True, seconds=100.0)
    assert hands.take(84.0, 1) == ("t0", pytest.approx(16.0))
    assert hands.fail(85.0, 1) is False, "the second attempt was the last"
    assert hands.next(85.0, 0) is None


def test_a_lost_task_waits_for_no_worker_of_the_same_device() -> None:
    hands = Hands(2, devices=("cuda:0", "cuda:0"))
    hands.take(0.0, 0)
    hands.take(0.0, 1)
    assert hands.fail(80.0, 0) is True
    hands.free_at[1] = 81.0
    assert hands.take(80.0, 0)[0] == "t0"


def test_what_ran_out_of_gpu_memory_goes_to_a_cpu_only_and_there_first() -> None:
    hands = Hands(4, devices=("cuda:0", "cuda:1", "cpu"))
    assert hands.take(0.0, 0)[0] == "t0"
    assert hands.fail(1.0, 0, memory=True) is True
    assert hands.scheduler.needs_cpu
    assert hands.take(1.0, 1)[0] == "t1"
    assert hands.take(1.0, 2)[0] == "t0" and not hands.scheduler.needs_cpu
    hands.finish(2.0, 2, votes=(3, 2), seconds=1.0)
    for at, worker in ((2.0, 0), (3.0, 2)):
        hands.take(at, worker)
        hands.finish(at + 1, worker, settled=True, seconds=1.0)
    assert hands.next(4.0, 0) is None, "nor is it trained anew on a GPU"
    assert hands.take(4.0, 2)[0] == "t0"
    on_cpu = Hands(1, devices=("cpu", "cuda:0"))
    on_cpu.take(0.0, 0)
    on_cpu.fail(90.0, 0, memory=True)
    assert not on_cpu.scheduler.needs_cpu and on_cpu.take(90.0, 1)[0] == "t0", "a CPU's memory says nothing of a GPU's"


def test_while_only_a_cpu_can_do_the_rest_gpus_train_anew() -> None:
    hands = Hands(2, devices=("cuda:0", "cpu"))
    assert hands.take(0.0, 0)[0] == "t0"
    assert hands.take(0.0, 1)[0] == "t1"
    hands.fail(1.0, 0, memory=True)
    hands.free_at[1] = 50.0
    assert hands.next(1.0, 0) is None
    hands.finish(50.0, 1, votes=(3, 2), seconds=2.0)
    assert hands.take(2.0, 0)[0] == "t1"


def test_after_the_end_of_the_shares_nothing_is_begun() -> None:
    hands = Hands(2)
    hands.take(0.0)
    hands.finish(100.0, votes=(3, 2), seconds=100.0)
    assert hands.next(100.0) is None and hands.next(101.0) is None and hands.next(100.0 - 1e-9) is None and hands.scheduler.queue


def test_fixed_work_comes_in_the_same_order_always() -> None:
    sizes = {"c": 5, "a": 3, "d": 3, "b": 7}
    tasks = [recolour(name, k, side=side) for k, (name, side) in enumerate(sizes.items())]
    orders = set()
    for order in permutations(tasks):
        for workers in (1, 2):
            hands = Hands(order, devices=("cpu",) * workers, segments=9, end=float("inf"))
            given = [hands.next(k, k % workers) for k in range(4)]
            orders.add(tuple((g.task.id, g.seconds, g.segments, g.restart) for g in given if g))
    assert orders == {(("b", None, 9, 0), ("c", None, 9, 0), ("a", None, 9, 0), ("d", None, 9, 0))}


def test_fixed_work_trains_nothing_anew() -> None:
    hands = Hands(1, segments=9, end=float("inf"))
    hands.take(0.0)
    hands.finish(1.0, votes=(3, 2), seconds=1.0)
    assert not hands.scheduler.open and hands.next(1.0) is None


def test_with_many_tasks_some_of_every_size_come_first() -> None:
    """Speeds are learnt from the smallest, the largest and two between them; then the largest come first."""
    tasks = [recolour(f"s{side:02d}", side, side=side) for side in range(3, 16)]
    order = [t.id for t in Scheduler(tasks, EQUAL, 100.0, None).queue]
    assert order[:4] == ["s03", "s15", "s07", "s11"]
    assert order[4:] == sorted(set(order) - set(order[:4]), reverse=True)


def test_a_slow_node_gets_more_seconds_for_a_task_and_so_fewer_tasks() -> None:
    """Node a is three times as fast as b: after both were measured, a task has as many segments on either."""
    hands = Hands(40, 1000.0, ("a/cpu", "b/cpu"), preset=Preset())
    first = [hands.take(0.0, worker)[1] for worker in (0, 1)]
    assert first[0] == pytest.approx(first[1], rel=0.05), "nobody knows yet"
    for worker, seconds in ((0, 10.0), (1, 30.0)):
        hands.progress(10, seconds, worker)
        hands.finish(50.0, worker, settled=True, seconds=first[worker])
    fast, slow = (hands.take(50.0, worker)[1] for worker in (0, 1))
    assert slow == pytest.approx(3 * fast, rel=0.1)
