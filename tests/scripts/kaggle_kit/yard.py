"""What is shipped, with a server to ship it to, and what tests of it share."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.scripts.kaggle_kit.loopback import REPOSITORY, Kaggle, Loopback

WHEEL, CHECKPOINT = b"a wheel", b"a checkpoint " * 1000


@dataclass
class Yard:
    """A copy of what is shipped, with a small wheel and checkpoint, and the server to ship it to."""

    root: Path
    server: Loopback

    @property
    def kaggle(self) -> Kaggle:
        return self.server.kaggle

    def ship(self, *words: str, credentials: bool = True) -> subprocess.CompletedProcess[str]:
        script = str(REPOSITORY / "scripts" / "kaggle_ship.py")
        options = ["--root", str(self.root), "--poll", "0.05s"]
        return self.server.run([script, words[0], *options, *words[1:]], self.root, credentials=credentials)

    def json(self, name: str) -> Any:
        return json.loads((self.root / name).read_text(encoding="utf-8"))

    def edit(self, name: str, **values: object) -> None:
        (self.root / name).write_text(json.dumps(self.json(name) | values), encoding="utf-8")


newest_client = pytest.mark.parametrize("yard", ["installed"], indirect=True)
"""For what does not depend on how the client answers."""


def one_line(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    assert done.returncode == code, (done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    for part in parts:
        assert part in lines[0]
