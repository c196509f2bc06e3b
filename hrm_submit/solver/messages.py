"""Messages that a solver yields while it works on a task; all of them pickle."""

from dataclasses import dataclass
from typing import TypeAlias

from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.vote import Outputs

VOTES_AGREE = "votes agree"
"""Why a training ends early."""


@dataclass(frozen=True)
class Alive:
    """A sign of life between other messages: training continues."""

    task: str


@dataclass(frozen=True)
class Progress:
    """Report of training: segments done and their seconds in all; since the last report, the mean loss and the share of augmented
    demonstrations that came out exactly right; which of several models trains."""

    task: str
    segments: int
    loss: float
    demo_exact: float
    seconds: float = 0.0
    member: str | None = None


@dataclass(frozen=True)
class Answer:
    """Candidates of each test output, best first; `final` ends the task, for `reason` (`"time used"`, `"votes agree"`, ...).

    `outputs` pool the newest vote with the earlier ones that count: `voters` views of each test input. The newest had `views` views and
    took `seconds`; `settled` if it agrees with itself and the demonstrations are fit.
    """

    task: str
    outputs: Outputs
    final: bool
    segments: int
    reason: str
    settled: bool = False
    views: int = 0
    seconds: float = 0.0
    voters: int = 0
    member: str | None = None


@dataclass(frozen=True)
class Restarted:
    """The task starts again with the same model, for `reason`: memory ran out, the compiler failed, or training diverged. Counting goes on
    from the `segments` and `seconds` of the models before it."""

    task: str
    reason: str
    segments: int = 0
    seconds: float = 0.0


Message: TypeAlias = Alive | Progress | Answer | Restarted | RawVote


@dataclass
class Outcome:
    """Folds the messages of one task: its last answer, and what was spent on it, trainings that diverged included. `demo_exact` is of the
    last report, `seconds` are those of training, without votes."""

    outputs: Outputs = ()
    views: int = 0
    reason: str = "no vote"
    segments: int = 0
    demo_exact: float = 0.0
    seconds: float = 0.0
    _before: tuple[int, float] = (0, 0.0)

    def add(self, message: Message) -> None:
        """Add the next message. An Answer without candidates leaves the earlier one as it is."""
        match message:
            case Progress():
                self.segments, self.seconds = self._before[0] + message.segments, self._before[1] + message.seconds
                self.demo_exact = message.demo_exact
            case Restarted():
                self._before = self.segments - message.segments, self.seconds - message.seconds
            case Answer():
                self.reason = message.reason
                if any(message.outputs):
                    self.outputs, self.views = message.outputs, message.voters
