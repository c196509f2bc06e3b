"""The answer that `hrm_submit.Solver` returns; apart from it so that showing an answer needs no torch."""

from dataclasses import dataclass

from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Task
from hrm_submit.predict.vote import Outputs


@dataclass(frozen=True, eq=False, repr=False)
class TaskAnswer:
    """The answer of a model to a task. `hrm_submit.show(task, answer)` draws it, as Jupyter does by itself."""

    task: Task
    candidates: Outputs
    """For each test output the grids that views voted for (`.grid`, `.votes`, `.score`, `.weight`), best first."""
    attempts: tuple[Attempts, ...]
    """For each test output the two grids to submit: the two best candidates, filled up by guesses that need no model."""
    views: int
    """Augmented views of each test input that voted, in the last vote and the mid-run votes that count."""
    segments: int
    """Training segments run."""
    demo_exact: float
    """Share of augmented demonstrations that came out exactly right when training ended."""
    seconds: float
    """Seconds in all."""
    reason: str
    """Why it ended: `"time used"`, `"segments done"`, `"votes agree"`, ..."""

    def __repr__(self) -> str:
        votes = ", ".join(f"{found[0].votes} of {self.views} votes" if found else "a guess without a model" for found in self.candidates)
        fit = f"{self.segments} segments, {self.demo_exact:.0%} of demonstrations exact"
        return f"<TaskAnswer to {self.task.id}: {votes}; {fit}; {self.seconds:.1f} s; {self.reason}>"
