"""What `hrm_submit.Solver` returns; apart from it so that showing an answer needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Task
from hrm_submit.predict.vote import Outputs


@dataclass(frozen=True, eq=False, repr=False)
class TaskAnswer:
    """What a model makes of a task. `hrm_submit.show(task, answer)` is its picture; Jupyter shows that by itself."""

    task: Task
    candidates: Outputs
    """Of each test output the grids that views voted for (`.grid`, `.votes`, `.score`, `.weight`), best first."""
    attempts: tuple[Attempts, ...]
    """Of each test output the two grids to submit: the two best candidates, filled up by guesses that need no model."""
    views: int
    """Augmented views of each test input that voted, those of votes on the way that count among them."""
    segments: int
    """Training segments that were run."""
    demo_exact: float
    """Share of the augmented demonstrations that came out exactly right when training ended."""
    seconds: float
    """All in all."""
    reason: str
    """Why it ended: `"share used"` (of the seconds or segments), `"votes agree"`, ..."""

    def __repr__(self) -> str:
        votes = ", ".join(f"{found[0].votes} of {self.views} votes" if found else "a guess without a model" for found in self.candidates)
        fit = f"{self.segments} segments, {self.demo_exact:.0%} of demonstrations exact"
        return f"<TaskAnswer to {self.task.id}: {votes}; {fit}; {self.seconds:.1f} s; {self.reason}>"
