"""Which tasks the options choose, through `chosen` alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrm_submit.arc.choice import chosen
from hrm_submit.arc.options import ChoiceOptions
from hrm_submit.arc.task import Task, make_grid
from hrm_submit.core.errors import UserError
from tests.shared import write

SIDES = {"b": 3, "a": 9, "x,y": 5, "x": 4, "c": 30, " d": 2}
TASKS = {name: Task(name, (), (make_grid(np.zeros((1, side), dtype=int)),)) for name, side in SIDES.items()}


def ids(broken: tuple[str, ...] = (), **options: Any) -> list[str]:
    return chosen(ChoiceOptions(**options), TASKS, "set.json", lambda run: {"b", "gone", str(run)}, broken)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"tasks": "c,b"}, ["b", "c"]),
        ({"tasks": "a,x, b,"}, ["b", "a", "x"]),
        ({"max_side": 5}, ["b", "x,y", "x", " d"]),
        ({"unsolved_of": Path("x")}, ["b", "x"]),
        ({"first": 2}, ["b", "a"]),
        ({"max_side": 5, "unsolved_of": Path("a"), "first": 2}, ["b"]),
        ({"random": 99}, list(TASKS)),
    ],
)
def test_each_option_takes_its_tasks_in_the_order_of_the_set(options: dict[str, Any], wanted: list[str]) -> None:
    assert ids(**options) == wanted


def test_random_tasks_are_those_of_the_seed() -> None:
    drawn = [ids(random=3, seed=seed) for seed in range(20)]
    assert drawn == [ids(random=3, seed=seed) for seed in range(20)]
    assert all(len(set(found)) == 3 and found == [name for name in TASKS if name in found] for found in drawn)
    assert len(set(map(tuple, drawn))) > 5


def test_a_file_lists_ids(tmp_path: Path) -> None:
    listed = write(tmp_path / "ids.txt", "# largest last\nx,y\n\n  c \n #a\n")
    assert ids(tasks=f"@{listed}") == ["x,y", "c"]


def test_a_broken_task_may_be_named_but_is_not_chosen() -> None:
    assert ids(("bad",), tasks="bad") == [] and ids(("bad",), tasks="bad,a") == ["a"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": "a,zz,x"}, "set.json: has no task zz"),
        ({"tasks": " , "}, "names no task"),
        ({"max_side": 1}, "set.json: no task is left"),
        ({"random": 0}, "--random must be at least 1, not 0"),
    ],
)
def test_a_choice_of_nothing_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ids(**options)
