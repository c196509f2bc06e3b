"""Messages of a solver at work; all of them pickle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.vote import Outputs


@dataclass(frozen=True)
class Alive:
    """A sign of life between other messages: training continues."""

    task: str


@dataclass(frozen=True)
class Progress:
    """Training progress: segments done and the seconds that they took; mean loss and share of exactly right augmented
    demonstrations since the last one."""

    task: str
    segments: int
    loss: float
    demo_exact: float
    seconds: float = 0.0


@dataclass(frozen=True)
class Answer:
    """Candidates of each test output, best first; `final` ends the task, for `reason` (`"share used"`, `"votes agree"`, ...).

    `outputs` are what the newest vote and those before it that count say, of `voters` views of each test input; in the newest `views` of
    them voted, in `seconds`. `settled` where the newest agrees with itself and the demonstrations are fit.
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


@dataclass(frozen=True)
class Restarted:
    """The task starts again with the same model, for `reason`: memory ran out, the compiler failed, or training diverged."""

    task: str
    reason: str


Message: TypeAlias = Alive | Progress | Answer | Restarted | RawVote


@dataclass
class Outcome:
    """What the messages of one task come to: its last answer, and what was spent on it, trainings that diverged included."""

    outputs: Outputs = ()
    views: int = 0
    reason: str = "no vote"
    settled: bool = False
    segments: int = 0
    demo_exact: float = 0.0
    """Share of exactly right augmented demonstrations when the last training ended."""
    seconds: float = 0.0
    """Of training, without votes."""
    _before: tuple[int, float] = (0, 0.0)

    def add(self, message: Message) -> None:
        """Take account of the next message. An Answer without candidates leaves the one before it as it is."""
        if isinstance(message, Progress):
            segments, seconds = self._before
            self.segments, self.seconds, self.demo_exact = segments + message.segments, seconds + message.seconds, message.demo_exact
        elif isinstance(message, Restarted):
            self._before = self.segments, self.seconds
        elif isinstance(message, Answer):
            self.reason = message.reason
            if any(message.outputs):
                self.outputs, self.views, self.settled = message.outputs, message.voters, message.settled
