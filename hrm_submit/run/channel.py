"""Messages between a supervisor and a worker over a socket: each is pickled, after its length in eight bytes.

A worker waits for its supervisor. The supervisor's socket does not block: it writes what fits and reads what is there, so that a worker
that stops in the middle of a message holds up nobody.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Iterator
from typing import Any

_LENGTH = struct.Struct("!Q")
READ_BYTES = 2**20
"""Most bytes of one `read`."""


class Channel:
    """One end of a socket. `waits`: whether `send` and `receive` wait for the other end."""

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


def channels() -> tuple[Channel, socket.socket]:
    """Open a pair of connected sockets: the supervisor's channel, and the end that goes to a worker."""
    ours, theirs = socket.socketpair()
    return Channel(ours, waits=False), theirs
