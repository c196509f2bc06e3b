"""`kaggle kernels push -p .` as it stands: the installed client, this repository's kernel-metadata.json, a server on this machine."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from tests.scripts.kaggle_kit.loopback import AUTHORIZATION, REPOSITORY, Loopback


def test_the_client_sends_the_request_that_the_kit_needs(tmp_path: Path) -> None:
    with Loopback(tmp_path, default_port=True) as server:
        done = server.run(["-m", "kaggle", "kernels", "push", "-p", "."], REPOSITORY)

    assert done.returncode == 0, done.stderr
    assert "Kernel version 7 successfully pushed" in done.stdout
    # The client says so where the title would give another slug, and Kaggle would then make a kernel of another name.
    assert "does not resolve" not in done.stdout
    assert server.kaggle.methods() == ["SaveKernel"]
    assert server.kaggle.calls[0].authorization == AUTHORIZATION

    sent = server.kaggle.body("SaveKernel")
    owner, slug = sent["slug"].split("/")
    assert (slug, sent["newTitle"]) == ("hrm-submit", "HRM Submit")
    assert (sent["language"], sent["kernelType"]) == ("python", "notebook")
    assert sent["isPrivate"] is True
    assert sent["enableGpu"] is True
    assert sent["enableInternet"] is False
    assert sent["machineShape"] == "NvidiaL4"
    assert sent["competitionDataSources"] == ["arc-prize-2026-arc-agi-2"]
    assert sent["datasetDataSources"] == [f"{owner}/hrm-submit-wheels"]


def test_the_code_that_arrives_is_the_notebook(tmp_path: Path) -> None:
    with Loopback(tmp_path) as server:
        done = server.run(["-m", "kaggle", "kernels", "push", "-p", str(REPOSITORY)], tmp_path)

    assert done.returncode == 0, done.stderr
    arrived = json.loads(server.kaggle.body("SaveKernel")["text"])
    here = json.loads((REPOSITORY / "notebook" / "submission.ipynb").read_text(encoding="utf-8"))
    assert [cell["source"] for cell in arrived["cells"]] == ["".join(cell["source"]) for cell in here["cells"]]
    assert [cell["cell_type"] for cell in arrived["cells"]] == [cell["cell_type"] for cell in here["cells"]]
    assert arrived["metadata"] == here["metadata"]
    assert sum(cell["cell_type"] == "code" for cell in arrived["cells"]) >= 1


def test_the_built_dataset_is_the_one_that_the_kernel_mounts(tmp_path: Path) -> None:
    code = "import pathlib, sys; from kaggle_kit import box; box.write_metadata(pathlib.Path(sys.argv[1]))"
    with Loopback(tmp_path) as server:
        done = server.run(["-c", code, str(tmp_path)], REPOSITORY / "scripts")
    assert done.returncode == 0, done.stderr
    built = json.loads((tmp_path / "dataset-metadata.json").read_text(encoding="utf-8"))
    assert [built["id"]] == json.loads((REPOSITORY / "kernel-metadata.json").read_text(encoding="utf-8"))["dataset_sources"]
    # The limits that the client checks before it creates a dataset.
    assert 6 <= len(built["title"]) <= 50
    assert len(built["licenses"]) == 1


def test_metadata_names_what_the_competition_file_names() -> None:
    metadata = json.loads((REPOSITORY / "kernel-metadata.json").read_text(encoding="utf-8"))
    files = sorted((REPOSITORY / "scripts" / "kaggle_kit" / "competitions").glob("*.toml"))
    named = {data["slug"]: data for data in (tomllib.loads(path.read_text(encoding="utf-8")) for path in files)}
    (competition,) = metadata["competition_sources"]
    assert competition in named
    assert metadata["machine_shape"] == named[competition]["machine_shape"]
