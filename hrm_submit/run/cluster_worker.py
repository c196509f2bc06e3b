"""A worker on another machine: what a Ray actor runs there. Knows nothing of Ray; everything that it needs comes by message."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrm_submit.core.errors import ClusterError
from hrm_submit.core.files import write_atomic
from hrm_submit.run.protocol import Assignment, Failed, Ready
from hrm_submit.version import __version__

Files = Mapping[str, bytes]
"""A checkpoint as it travels: the bytes of each of its files, by name."""


def files_of(checkpoint: Path) -> dict[str, bytes]:
    """The files of a checkpoint, which is one or a folder of parts. Raises OSError."""
    found = sorted(checkpoint.glob("*.safetensors")) if checkpoint.is_dir() else [checkpoint]
    return {path.name: path.read_bytes() for path in found}


def placed(files: Files) -> Path:
    """Where this machine keeps the checkpoint `files`: the first worker that needs it writes it down."""
    name = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for _, data in sorted(files.items()))).hexdigest()[:20]
    folder = Path(tempfile.gettempdir(), f"hrm-submit-{os.getuid()}", name)
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        if not (folder / file).is_file() or (folder / file).stat().st_size != len(data):
            write_atomic(folder / file, data)
    return folder


class RemoteWorker:
    """A worker that is set up by its first call and works in the later ones; each yields the messages that a local one would send."""

    def begin(self, version: str, spec: bytes, files: Files | None) -> Iterator[Ready]:
        """Build the model. `spec` is a pickled WorkerSpec, opened only where both sides have the same package. Raises ClusterError."""
        if version != __version__:
            raise ClusterError(f"{socket.gethostname()} has hrm-submit {__version__}, not {version}: install the same on all nodes")
        from hrm_submit.run.worker import Worker

        own = pickle.loads(spec)
        self._worker = Worker(replace(own, checkpoint=None if files is None else placed(files)))
        yield Ready(self._worker.describe())

    def work(self, given: Assignment) -> Iterator[Any]:
        """Solve a task."""
        for message in self._worker.serve(given):
            yield message
            if isinstance(message, Failed) and message.fatal:
                os._exit(3)
