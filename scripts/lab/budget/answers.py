"""The answers that a recorded run gave when each task's first training ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hrm_submit.arc.task import Grid, Solutions, same_grid
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.events import RunStart
from hrm_submit.record.folder import RunRecord

Output = tuple[str, int]
"""A task and the number of one of its test outputs."""


@dataclass(frozen=True)
class Answers:
    """One run: its seed, its budget in seconds, and the candidates of each output in the last vote of the task's first training."""

    seed: int
    budget: float
    candidates: Mapping[Output, tuple[Candidate, ...]]

    def known(self, solutions: Solutions) -> dict[Output, tuple[tuple[Candidate, ...], Grid]]:
        """The candidates of each output whose truth is known, and that truth."""
        return {
            (task, output): (candidates, solutions[task][output])
            for (task, output), candidates in self.candidates.items()
            if task in solutions and 0 <= output < len(solutions[task])
        }


def answers(run: RunRecord) -> Answers:
    """The first final answers of a run. A line that is no answer is left out."""
    found: dict[Output, tuple[Candidate, ...]] = {}
    for p in run.predictions:
        if p.final:
            found.setdefault((p.task, p.output), p.candidates)
    budget = next((float(e.budget or 0.0) for e in run.events if isinstance(e, RunStart)), 0.0)
    return Answers(int(run.run.get("seed") or 0), budget, found)


def solved(candidates: Sequence[Candidate], truth: Grid) -> bool:
    """Whether one of the best two is right (pass@2)."""
    return any(same_grid(c.grid, truth) for c in candidates[:2])
