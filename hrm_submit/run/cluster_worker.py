"""A worker on another machine: what a Ray actor runs there. Knows nothing of Ray; everything that it needs comes by message."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrm_submit.core.errors import ClusterError
from hrm_submit.core.files import write_atomic
from hrm_submit.run.protocol import Assignment, Failed, Ready
from hrm_submit.version import __version__


def placed(weights: bytes) -> Path:
    """Where this machine keeps a checkpoint of these bytes: the first worker that needs it writes the file."""
    folder = Path(tempfile.gettempdir(), f"hrm-submit-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(weights).hexdigest()[:20]}.safetensors"
    if not path.is_file() or path.stat().st_size != len(weights):
        write_atomic(path, weights)
    return path


class RemoteWorker:
    """A worker that is set up by its first call and works in the later ones; each yields the messages that a local one would send."""

    def begin(self, version: str, spec: bytes, weights: bytes | None) -> Iterator[Ready]:
        """Build the model. `spec` is a pickled WorkerSpec, opened only where both sides have the same package. Raises ClusterError."""
        if version != __version__:
            raise ClusterError(f"{socket.gethostname()} has hrm-submit {__version__}, not {version}: install the same on all nodes")
        from hrm_submit.run.worker import Worker

        own = pickle.loads(spec)
        self._worker = Worker(replace(own, checkpoint=None if weights is None else placed(weights)))
        yield Ready(self._worker.describe())

    def work(self, given: Assignment) -> Iterator[Any]:
        """Solve a task."""
        for message in self._worker.serve(given):
            yield message
            if isinstance(message, Failed) and message.fatal:
                os._exit(3)
