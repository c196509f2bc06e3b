"""What the supervisor and its workers tell each other, besides the messages of a solver, and the channel that it goes through."""

import logging
import pickle
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Preset
from hrm_submit.core.errors import one_line
from hrm_submit.model.packaged import EnsembleMember
from hrm_submit.predict.raw import RawVote, save_raw
from hrm_submit.record.events import EngineChosen

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("!Q")
READ_BYTES = 2**20
"""Most bytes of one `read`."""


@dataclass(frozen=True)
class WorkerSpec:
    """How a worker is set up.

    `device`: `"cpu"`, `"cuda:0"`; `members`: the models that train a task, in their order; `tokens`: cells of the largest canvas it may
    get; `raw`: the folder for raw predictions, where they are kept; `sharing`: workers on its device; `node`: its machine in a cluster;
    `helper`: it was started beside GPUs, for what they have no memory for.
    """

    number: int
    device: str
    members: tuple[EnsembleMember, ...]
    seed: int
    tokens: int = 900
    raw: Path | None = None
    sharing: int = 1
    node: str = ""
    helper: bool = False

    @property
    def preset(self) -> Preset:
        """Return the preset of the first member, whose `[device]` and `[budget]` all share."""
        return self.members[0].preset

    @property
    def location(self) -> str:
        """Return the device, with its node where it has one: `"10.0.0.3/cuda:0"`."""
        return f"{self.node}/{self.device}" if self.node else self.device


@dataclass(frozen=True)
class Assignment:
    """A task to solve in `seconds` or in exactly `segments` training segments (the one that is not None).

    `restart` numbers the retrains of the task, each with a seed of its own; 0: its first training. `engine`: what to compute with (None:
    as before); `compare_seconds`: how long to compare engines first, where that is above 0.
    """

    task: Task
    seconds: float | None
    segments: int | None
    restart: int = 0
    engine: EngineChosen | None = None
    compare_seconds: float = 0.0


@dataclass(frozen=True)
class Ready:
    """The worker has its model; `runtime` says how it runs, for the run folder; `card`: the name of its GPU, or `cpu`."""

    runtime: dict[str, Any]
    card: str = "cpu"


@dataclass(frozen=True)
class Failed:
    """The worker could not solve the task, or before `Ready` not use its input; `fault` is one line. It lives on unless `fatal`; `memory`:
    it had too little."""

    task: str
    fault: str
    fatal: bool = False
    memory: bool = False


def keep_raw(spec: WorkerSpec, raw: RawVote) -> None:
    """Write what a last vote was made of, where the run keeps that; a disk that refuses costs only this file."""
    if spec.raw is None:
        return
    try:
        save_raw(spec.raw, raw)
    except (OSError, MemoryError) as error:
        log.warning("task %s: its raw predictions are not kept: %s", raw.task, one_line(error))


class Channel:
    """One end of a socket, for messages that are pickled, each after its length in eight bytes.

    `waits`: whether `send` and `receive` wait for the other end, as a worker does. The supervisor's end writes what fits and reads what is
    there, so that a worker that stops in the middle of a message holds up nobody.
    """

    def __init__(self, end: socket.socket, *, waits: bool) -> None:
        end.setblocking(waits)
        self.socket = end
        self.unsent = bytearray()
        self._unread = bytearray()

    def send(self, message: Any) -> None:
        """Send a message, or as much of it as goes now; `flush` sends the rest. Raises OSError where the other end is closed."""
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        self.unsent += _LENGTH.pack(len(data)) + data
        self.flush()

    def flush(self) -> None:
        """Send what is `unsent`, as far as it goes now. Raises OSError where the other end is closed."""
        try:
            while self.unsent:
                del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            return

    def read(self) -> None:
        """Read once what has come. Raises EOFError or OSError where the other end is closed."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise EOFError
        self._unread += data

    def messages(self) -> Iterator[Any]:
        """Yield the messages that are here whole. Raises what unpickling a damaged one raises."""
        while len(self._unread) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._unread)[0]
            if len(self._unread) < end:
                return
            data = bytes(self._unread[_LENGTH.size : end])
            del self._unread[:end]
            yield pickle.loads(data)

    def receive(self) -> Any:
        """Wait for one message. Raises EOFError or OSError where the other end is closed."""
        while True:
            for message in self.messages():
                return message
            self.read()

    def close(self) -> None:
        """Close this end."""
        self.socket.close()
