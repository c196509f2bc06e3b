"""The yard, with each Kaggle client that is supported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripts.kaggle_kit.loopback import CLIENTS, REPOSITORY, Loopback
from tests.scripts.kaggle_kit.yard import CHECKPOINT, WHEEL, Yard


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (path is not None)) for name, path in CLIENTS.items()])
def yard(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Yard]:
    client = CLIENTS[request.param]
    if client and not client.is_dir():
        pytest.skip(f"no {client}: make setup")
    root = tmp_path / "kit"
    (root / "offline_wheels").mkdir(parents=True)
    shutil.copy(REPOSITORY / "kernel-metadata.json", root)
    shutil.copytree(REPOSITORY / "notebook", root / "notebook")
    dataset = {"id": "OWNER/hrm-submit-wheels", "title": "hrm-submit-wheels", "licenses": [{"name": "other"}]}
    (root / "offline_wheels" / "dataset-metadata.json").write_text(json.dumps(dataset), encoding="utf-8")
    (root / "offline_wheels" / "hrm_submit-0.0.1-py3-none-any.whl").write_bytes(WHEEL)
    (root / "offline_wheels" / "checkpoint.safetensors").write_bytes(CHECKPOINT)
    with Loopback(tmp_path, client=client) as server:
        yield Yard(root, server)
