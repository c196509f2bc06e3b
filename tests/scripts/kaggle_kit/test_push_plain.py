"""`kaggle kernels push -p FOLDER` as it stands: the installed client, this repository's metadata, a server on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kaggle_kit.dataset import write_metadata

from tests.scripts.kaggle_kit.loopback import AUTHORIZATION, REPOSITORY, Loopback


@pytest.mark.parametrize(
    ("folder", "name", "title", "notebook"),
    [
        (".", "hrm-submit", "HRM Submit", "submission.ipynb"),
        ("notebook/pretrain", "hrm-submit-pretrain", "HRM Submit Pretrain", "pretrain.ipynb"),
    ],
)
def test_the_client_sends_the_request_that_the_kit_needs(tmp_path: Path, folder: str, name: str, title: str, notebook: str) -> None:
    with Loopback(tmp_path) as server:
        done = server.run(["-m", "kaggle", "kernels", "push", "-p", folder], REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "Kernel version 7 successfully pushed" in done.stdout
    assert "does not resolve" not in done.stdout, "the title would give another slug, and Kaggle would make a kernel of another name"
    assert server.kaggle.methods() == ["SaveKernel"] and server.kaggle.calls[0].authorization == AUTHORIZATION

    sent = server.kaggle.body("SaveKernel")
    owner, slug = sent["slug"].split("/")
    assert (slug, sent["newTitle"], sent["language"], sent["kernelType"]) == (name, title, "python", "notebook")
    assert (sent["isPrivate"], sent["enableGpu"], sent["enableInternet"], sent["machineShape"]) == (True, True, False, "NvidiaL4")
    # Kaggle lends the machine of a competition to notebooks that have the competition among their inputs.
    assert sent["competitionDataSources"] == ["arc-prize-2026-arc-agi-2"]
    assert sent["datasetDataSources"] == [f"{owner}/hrm-submit-wheels"]
    assert sent.get("kernelDataSources", []) == ([f"{owner}/{name}"] if folder != "." else []), "its own output, to go on from"
    arrived = json.loads(sent["text"])
    here = json.loads((REPOSITORY / "notebook" / notebook).read_text(encoding="utf-8"))
    assert [cell["source"] for cell in arrived["cells"]] == ["".join(cell["source"]) for cell in here["cells"]]
    assert [cell["cell_type"] for cell in arrived["cells"]] == [cell["cell_type"] for cell in here["cells"]]
    assert arrived["metadata"] == here["metadata"]


def test_the_built_dataset_is_the_one_that_the_kernel_mounts(tmp_path: Path) -> None:
    write_metadata(tmp_path)
    built = json.loads((tmp_path / "dataset-metadata.json").read_text(encoding="utf-8"))
    assert [built["id"]] == json.loads((REPOSITORY / "kernel-metadata.json").read_text(encoding="utf-8"))["dataset_sources"]
    # The limits that the client checks before it creates a dataset.
    assert 6 <= len(built["title"]) <= 50 and len(built["licenses"]) == 1
