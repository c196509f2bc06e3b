"""Two runs on the same tasks: what one solved and the other did not, and whether that can be chance."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from hrm_submit.core.errors import DataError
from hrm_submit.report.run.statistics import sign_test
from hrm_submit.report.run.tables import Tables


@dataclass(frozen=True)
class Pairing:
    """Names of what this run solved and the other did not (`gained`), the reverse (`lost`), `both` or `neither` solved."""

    gained: tuple[str, ...]
    lost: tuple[str, ...]
    both: tuple[str, ...]
    neither: tuple[str, ...]

    @property
    def p_value(self) -> float:
        """Of the two-sided exact sign test."""
        return sign_test(len(self.gained), len(self.lost))

    @property
    def verdict(self) -> str:
        """Whether that can be chance, in words."""
        if not self.gained and not self.lost:
            return "Both runs solved the same."
        words = "can well be chance" if self.p_value > 0.05 else "is hardly chance"
        told = f"{len(self.gained)} gained, {len(self.lost)} lost: that {words}"
        return f"{told} (two-sided exact sign test, p = {self.p_value:.3g})."


@dataclass(frozen=True)
class Comparison:
    """This run against `other`, by tasks (every output right) and by test outputs (named `TASK test K`, from 1)."""

    other: str
    tasks: Pairing
    outputs: Pairing


def compare(mine: Tables, theirs: Tables, other: str) -> Comparison:
    """Pair the tasks and outputs that both runs had to solve and whose truth is known. Raises DataError if there are none."""
    tasks = _pair(_solved_tasks(mine.tasks), _solved_tasks(theirs.tasks))
    outputs = _pair(_solved_outputs(mine.outputs), _solved_outputs(theirs.outputs))
    if tasks is None or outputs is None:
        raise DataError(f"{other}: has no task with a known solution in common with this run")
    return Comparison(other, tasks, outputs)


def _solved_tasks(tasks: pd.DataFrame) -> dict[str, bool]:
    judged = tasks[tasks["state"] != "unknown"]
    return {str(task): state == "solved" for task, state in zip(judged["task"], judged["state"], strict=True)}


def _solved_outputs(outputs: pd.DataFrame) -> dict[str, bool]:
    judged = outputs[outputs["solved"].notna()]
    rows = zip(judged["task"], judged["output"], judged["solved"], strict=True)
    return {f"{task} test {int(k) + 1}": bool(solved) for task, k, solved in rows}


def _pair(mine: dict[str, bool], theirs: dict[str, bool]) -> Pairing | None:
    common = [name for name in mine if name in theirs]
    if not common:
        return None
    kinds: dict[tuple[bool, bool], list[str]] = {}
    for name in common:
        kinds.setdefault((mine[name], theirs[name]), []).append(name)
    order = ((True, False), (False, True), (True, True), (False, False))
    return Pairing(*(tuple(kinds.get(kind, ())) for kind in order))
