"""scripts/kaggle_ship.py against a server on this machine, with the newest and the oldest client: what is sent and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.scripts.kaggle_kit.loopback import AUTHORIZATION, CLIENTS, REPOSITORY, Kaggle, Loopback

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


@pytest.fixture(params=CLIENTS)
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


newest_client = pytest.mark.parametrize("yard", ["installed"], indirect=True)
"""For what does not depend on how the client answers."""


def one_line(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    assert done.returncode == code, (done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    for part in parts:
        assert part in lines[0]


def test_first_push_creates_the_dataset_waits_and_pushes_the_kernel(yard: Yard) -> None:
    yard.kaggle.after_upload = [(0, "NOT_YET_PERSISTED"), (1, "BLOBS_RECEIVED"), (1, "READY")]
    done = yard.ship("push", "--owner", "ada")
    assert done.returncode == 0, done.stderr

    methods = yard.kaggle.methods()
    assert "CreateDatasetVersion" not in methods
    created = yard.kaggle.body("CreateDataset")
    assert (created["ownerSlug"], created["slug"]) == ("ada", "hrm-submit-wheels")
    assert created["isPrivate"] is True
    assert {file["token"] for file in created["files"]} == {
        "token-hrm_submit-0.0.1-py3-none-any.whl",
        "token-checkpoint.safetensors",
    }
    assert yard.kaggle.body("PUT hrm_submit-0.0.1-py3-none-any.whl") == WHEEL
    assert yard.kaggle.body("PUT checkpoint.safetensors") == CHECKPOINT

    # Three looks at a dataset on its way, all before the kernel that mounts it.
    assert methods[-1] == "SaveKernel"
    assert methods[methods.index("CreateDataset") :].count("GetDatasetStatus") == 3
    kernel = yard.kaggle.body("SaveKernel")
    assert kernel["slug"] == "ada/hrm-submit"
    assert kernel["datasetDataSources"] == ["ada/hrm-submit-wheels"]
    assert kernel["enableInternet"] is False
    api_calls = [call for call in yard.kaggle.calls if not call.method.startswith("PUT")]
    assert {call.authorization for call in api_calls} == {AUTHORIZATION}
    assert yard.json("build/kaggle/pushed.json")["version"] == 7


def test_next_push_adds_a_version_and_is_not_fooled_by_the_ready_old_one(yard: Yard) -> None:
    yard.kaggle.dataset_states = [(4, "READY")]
    yard.kaggle.after_upload = [(4, "READY"), (4, "READY"), (5, "REPROCESSING"), (5, "READY")]
    done = yard.ship("push", "--owner", "ada")
    assert done.returncode == 0, done.stderr

    methods = yard.kaggle.methods()
    assert "CreateDataset" not in methods
    version = yard.kaggle.body("CreateDatasetVersion")
    assert (version["ownerSlug"], version["datasetSlug"]) == ("ada", "hrm-submit-wheels")
    assert len(version["body"]["files"]) == 2
    assert "hrm_submit-0.0.1-py3-none-any.whl" in version["body"]["versionNotes"]
    assert methods[methods.index("CreateDatasetVersion") :].count("GetDatasetStatus") == 4
    assert methods[-1] == "SaveKernel"


@newest_client
def test_the_owner_is_given_once_and_a_plain_client_push_then_says_the_same(yard: Yard) -> None:
    yard.edit("kernel-metadata.json", dataset_sources=["someone/hrm-submit-wheels", "grace/borrowed-weights"])
    assert yard.ship("push", "--owner", "ada").returncode == 0
    first = yard.kaggle.body("SaveKernel")
    assert first["datasetDataSources"] == ["ada/hrm-submit-wheels", "grace/borrowed-weights"]
    assert yard.json("offline_wheels/dataset-metadata.json")["id"] == "ada/hrm-submit-wheels"

    yard.kaggle.calls.clear()
    assert yard.server.run(["-m", "kaggle", "kernels", "push", "-p", "."], yard.root).returncode == 0
    assert yard.kaggle.body("SaveKernel") == first

    # Changed by hand in that one place, it changes everywhere.
    yard.kaggle.calls.clear()
    yard.edit("kernel-metadata.json", id="lin/hrm-submit")
    yard.kaggle.after_upload = [(2, "READY")]
    assert yard.ship("push").returncode == 0
    assert yard.kaggle.body("CreateDatasetVersion")["ownerSlug"] == "lin"
    assert yard.kaggle.body("SaveKernel")["datasetDataSources"] == ["lin/hrm-submit-wheels", "grace/borrowed-weights"]


def test_kernel_only_leaves_the_dataset_alone(yard: Yard) -> None:
    assert yard.ship("push", "--owner", "ada", "--kernel-only").returncode == 0
    assert yard.kaggle.methods() == ["GetAcceleratorQuotaStatistics", "SaveKernel"]


@newest_client
@pytest.mark.parametrize(
    ("fault", "parts"),
    [
        ("no owner", ("kernel-metadata.json", "make push OWNER=you")),
        ("bad owner", ("kernel-metadata.json", "not a Kaggle user name")),
        ("no wheel", ("offline_wheels", "no wheel", "make wheels")),
        ("folder among the wheels", ("offline_wheels", "flat", "extra")),
        ("no dataset metadata", ("dataset-metadata.json", "No such file")),
        ("no kernel metadata", ("kernel-metadata.json", "No such file")),
        ("metadata not JSON", ("kernel-metadata.json", "not JSON")),
        ("id without owner", ("kernel-metadata.json", "OWNER/SLUG")),
        ("no notebook", ("kernel-metadata.json", "code_file")),
        ("dataset not a source", ("kernel-metadata.json", "dataset_sources")),
        ("no credentials", ("credentials", "KAGGLE_API_TOKEN")),
        ("unknown option", ("--loud",)),
    ],
)
def test_what_is_wrong_here_is_one_line_and_nothing_is_sent_or_written(yard: Yard, fault: str, parts: tuple[str, ...]) -> None:
    words, credentials = ["--owner", "ada"], True
    match fault:
        case "no owner":
            words = []
        case "bad owner":
            words = ["--owner", "ada/lovelace"]
        case "no wheel":
            next((yard.root / "offline_wheels").glob("*.whl")).unlink()
        case "folder among the wheels":
            (yard.root / "offline_wheels" / "extra").mkdir()
        case "no dataset metadata":
            (yard.root / "offline_wheels" / "dataset-metadata.json").unlink()
        case "no kernel metadata":
            (yard.root / "kernel-metadata.json").unlink()
        case "metadata not JSON":
            (yard.root / "kernel-metadata.json").write_text("{")
        case "id without owner":
            yard.edit("kernel-metadata.json", id="hrm-submit")
        case "no notebook":
            (yard.root / "notebook" / "submission.ipynb").unlink()
        case "dataset not a source":
            yard.edit("kernel-metadata.json", dataset_sources=["ada/another"])
        case "no credentials":
            credentials = False
        case "unknown option":
            words += ["--loud"]
    before = {path: path.read_bytes() for path in yard.root.rglob("*.json")}
    one_line(yard.ship("push", *words, credentials=credentials), 2, *parts)
    assert yard.kaggle.calls == []
    assert {path: path.read_bytes() for path in yard.root.rglob("*.json")} == before


def test_a_kernel_that_kaggle_takes_without_its_sources_is_a_failure(yard: Yard) -> None:
    yard.kaggle.save_kernel = {"invalidDatasetSources": ["ada/hrm-submit-wheels"]}
    done = yard.ship("push", "--owner", "ada", "--kernel-only")
    one_line(done, 1, "not valid dataset sources", "ada/hrm-submit-wheels")
    assert not (yard.root / "build").exists()


def test_a_refused_kernel_is_a_failure_though_the_client_exits_zero(yard: Yard) -> None:
    yard.kaggle.save_kernel = {"error": "Maximum weekly GPU quota of 30.00 hours reached."}
    one_line(yard.ship("push", "--owner", "ada", "--kernel-only"), 1, "kernels push", "GPU quota")


@pytest.mark.parametrize(
    ("states", "after", "refuse", "parts"),
    [
        ([], [(1, "READY")], {"PUT": 400}, ("Upload unsuccessful",)),
        ([(1, "READY")], [(2, "FAILED")], {}, ("could not process", "version 2")),
        ([(1, "READY")], [(1, "READY")], {}, ("no new version ready after", "--kernel-only")),
        ([(1, "READY")], [(2, "READY")], {"GetDatasetStatus": 500}, ("datasets status", "500")),
        ([(1, "READY")], [(2, "READY")], {"CreateDatasetVersion": 400}, ("datasets version", "400")),
    ],
    ids=["upload fails", "processing fails", "never ready", "server down", "version refused"],
)
def test_no_kernel_is_pushed_over_a_dataset_that_failed(
    yard: Yard, states: list[tuple[int, str]], after: list[tuple[int, str]], refuse: dict[str, int], parts: tuple[str, ...]
) -> None:
    yard.kaggle.dataset_states, yard.kaggle.after_upload, yard.kaggle.refuse = states, after, refuse
    done = yard.ship("push", "--owner", "ada", "--wait", "1s")
    assert done.returncode == 1, done.stderr
    for part in parts:
        assert part in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "SaveKernel" not in yard.kaggle.methods()


def test_status_follows_the_run_and_fetches_outputs_and_log(yard: Yard) -> None:
    yard.kaggle.kernel_states = ["QUEUED", "RUNNING", "RUNNING", "COMPLETE"]
    yard.kaggle.outputs = {"submission.json": b"{}", "run/events.jsonl": b"{}\n"}
    done = yard.ship("status", "--owner", "ada")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("kernel ada/hrm-submit:")]
    assert [line.rsplit(" ", 1)[1] for line in told] == ["QUEUED", "RUNNING", "COMPLETE"]
    assert yard.kaggle.methods().count("GetKernelSessionStatus") == 4
    output = yard.root / "build" / "kaggle" / "output"
    assert (output / "submission.json").read_bytes() == b"{}"
    assert (output / "run" / "events.jsonl").read_bytes() == b"{}\n"
    assert (output / "hrm-submit.log").read_text() == "the log"
    assert yard.kaggle.body("ListSubmissions")["competitionName"] == "arc-prize-2026-arc-agi-2"


def test_status_of_a_failed_run_says_why_and_keeps_its_log(yard: Yard) -> None:
    yard.kaggle.kernel_states, yard.kaggle.failure_message = ["ERROR"], "Your notebook tried to allocate more memory"
    done = yard.ship("status", "--owner", "ada")
    assert done.returncode == 1
    assert "ERROR: Your notebook tried to allocate more memory" in done.stderr.splitlines()[-1]
    assert (yard.root / "build" / "kaggle" / "output" / "hrm-submit.log").read_text() == "the log"


@newest_client
def test_status_once_does_not_wait(yard: Yard) -> None:
    # On another machine nothing may be built: following a run needs no wheels.
    shutil.rmtree(yard.root / "offline_wheels")
    yard.kaggle.kernel_states = ["RUNNING"]
    assert yard.ship("status", "--owner", "ada", "--once").returncode == 0
    assert yard.kaggle.methods().count("GetKernelSessionStatus") == 1
    assert "ListKernelSessionOutput" not in yard.kaggle.methods()


def test_submit_hands_over_the_version_that_was_pushed(yard: Yard) -> None:
    assert yard.ship("push", "--owner", "ada", "--kernel-only").returncode == 0
    done = yard.ship("submit")
    assert done.returncode == 0, done.stderr
    sent = yard.kaggle.body("CreateCodeSubmission")
    assert sent == {
        "competitionName": "arc-prize-2026-arc-agi-2",
        "kernelOwner": "ada",
        "kernelSlug": "hrm-submit",
        "kernelVersion": 7,
        "fileName": "submission.json",
        "submissionDescription": "ada/hrm-submit version 7",
    }
    assert "Successfully submitted" in done.stderr


@newest_client
def test_submit_takes_another_version_and_message(yard: Yard) -> None:
    assert yard.ship("submit", "--owner", "ada", "--version", "3", "--message", "longer TTT").returncode == 0
    sent = yard.kaggle.body("CreateCodeSubmission")
    assert (sent["kernelVersion"], sent["submissionDescription"]) == (3, "longer TTT")


@newest_client
def test_submit_wants_a_version_and_a_complete_run(yard: Yard) -> None:
    one_line(yard.ship("submit", "--owner", "ada"), 2, "pushed.json", "--version")
    one_line(yard.ship("submit", "--owner", "ada", "--version", "0"), 2, "version")
    yard.kaggle.kernel_states = ["RUNNING"]
    one_line(yard.ship("submit", "--owner", "ada", "--version", "3"), 1, "RUNNING", "complete")
    assert "CreateCodeSubmission" not in yard.kaggle.methods()


def test_a_submission_that_kaggle_refuses_is_a_failure(yard: Yard) -> None:
    yard.kaggle.refuse = {"CreateCodeSubmission": 403}
    done = yard.ship("submit", "--owner", "ada", "--version", "3")
    assert done.returncode == 1
    assert "competitions submit" in done.stderr.splitlines()[-1]
    assert "403" in done.stderr.splitlines()[-1]


def test_it_is_the_client_that_is_meant(yard: Yard, request: pytest.FixtureRequest) -> None:
    done = yard.server.run(["-m", "kaggle", "--version"], yard.root)
    assert ("2.2.4" in done.stdout) == ("oldest" in request.node.name)


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_dataset_that_kaggle_cannot_tell_of_now_is_left_alone(yard: Yard, code: int) -> None:
    yard.kaggle.refuse = {"GetDatasetStatus": code}
    one_line(yard.ship("push", "--owner", "ada"), 1, "datasets status", str(code))
    assert not {"CreateDataset", "CreateDatasetVersion", "SaveKernel"} & set(yard.kaggle.methods())


@pytest.mark.parametrize("code", [403, 404])
def test_a_dataset_that_does_not_exist_is_created(yard: Yard, code: int) -> None:
    yard.kaggle.refuse = {"GetDatasetStatus": code}
    yard.ship("push", "--owner", "ada", "--wait", "0.2s")
    assert "CreateDataset" in yard.kaggle.methods()


def test_a_kernel_that_kaggle_renames_is_known_by_its_real_name(yard: Yard) -> None:
    yard.edit("kernel-metadata.json", title="Another Title")
    yard.kaggle.save_kernel = {"url": f"{yard.kaggle.endpoint}/code/ada/another-title"}
    done = yard.ship("push", "--owner", "ada", "--kernel-only")
    assert done.returncode == 0, done.stderr
    assert "does not resolve to the specified id" in done.stderr, "the client's warning"
    assert "Kaggle calls it ada/another-title" in done.stderr
    assert yard.json("build/kaggle/pushed.json")["kernel"] == "ada/another-title"
    assert yard.ship("status", "--once").returncode == 0
    assert yard.kaggle.body("GetKernelSessionStatus")["kernelSlug"] == "another-title"
    assert yard.ship("submit").returncode == 0
    assert yard.kaggle.body("CreateCodeSubmission")["kernelSlug"] == "another-title"


def test_metadata_that_was_pulled_can_be_pushed(yard: Yard) -> None:
    yard.edit("kernel-metadata.json", dataset_sources=["datasets/ada/hrm-submit-wheels", "datasets/grace/weights"], is_private=True)
    assert yard.ship("push", "--owner", "ada", "--kernel-only").returncode == 0
    assert yard.kaggle.body("SaveKernel")["datasetDataSources"] == ["ada/hrm-submit-wheels", "grace/weights"]
    assert yard.json("kernel-metadata.json")["dataset_sources"] == ["ada/hrm-submit-wheels", "grace/weights"]


def test_the_quota_is_told_before_a_push(yard: Yard) -> None:
    hours = {"timeUsed": "64800s", "totalTimeAllowed": "108000s"}
    yard.kaggle.quota = {"quotaRefreshTime": "2026-12-05T00:00:00Z", "gpuQuota": hours, "tpuQuota": hours}
    done = yard.ship("push", "--owner", "ada", "--kernel-only")
    assert "GPU quota: 12.00h of 30.00h are left until 2026-12-05" in done.stderr
    assert yard.kaggle.methods() == ["GetAcceleratorQuotaStatistics", "SaveKernel"]


def test_a_smoke_run_can_have_a_limit(yard: Yard) -> None:
    assert yard.ship("push", "--owner", "ada", "--kernel-only", "--timeout", "20m").returncode == 0
    assert yard.kaggle.body("SaveKernel")["sessionTimeoutSeconds"] == 1200


def test_a_failed_submission_says_why_where_the_client_can_ask(yard: Yard, request: pytest.FixtureRequest) -> None:
    common = {"date": "2026-11-01T10:00:00Z", "description": "longer TTT", "fileName": "submission.json"}
    failed = {"ref": 5, "status": "ERROR", "errorDescription": "Submission Scoring Error:\na row is missing", **common}
    yard.kaggle.submissions = [failed, {"ref": 4, "status": "COMPLETE", "publicScore": "12.5", **common}]
    done = yard.ship("status", "--owner", "ada")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("submission ")]
    why = "kaggle 2.2.5 or newer can tell why" if "oldest" in request.node.name else "Submission Scoring Error: a row is missing"
    assert told[0].startswith("submission 5 of 2026-11-01") and told[0].endswith(f"longer TTT: ERROR: {why}")
    assert told[1].endswith("longer TTT: COMPLETE, score 12.5")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_failed_kernel_shows_the_end_of_its_log(yard: Yard, form: str) -> None:
    lines = [f"line {n}" for n in range(40)] + ["RuntimeError: no challenges"]
    pieces = [{"stream_name": "stdout", "time": n, "data": line + "\n"} for n, line in enumerate(lines)]
    yard.kaggle.kernel_states, yard.kaggle.log = ["ERROR"], json.dumps(pieces) if form == "json" else "\n".join(lines)
    done = yard.ship("status", "--owner", "ada")
    assert done.returncode == 1
    shown = done.stderr.splitlines()
    assert shown[-2:] == ["  RuntimeError: no challenges", shown[-1]] and "  line 26" in shown and "  line 25" not in shown


def test_the_log_is_followed_where_the_client_can(yard: Yard) -> None:
    assert yard.ship("status", "--owner", "ada", "--follow").returncode == 0
    assert any("log" in method.lower() for method in yard.kaggle.methods() + yard.kaggle.gets)


def test_the_image_of_a_good_run_is_pinned(yard: Yard) -> None:
    yard.kaggle.pulled = {"ref": "ada/hrm-submit", "dockerImage": "an/image@sha256:1", "language": "python", "kernelType": "notebook"}
    before = yard.json("kernel-metadata.json")
    done = yard.ship("pin", "--owner", "ada")
    assert done.returncode == 0, done.stderr
    pinned = {"docker_image": "an/image@sha256:1", "docker_image_pinning_type": "original"}
    assert yard.json("kernel-metadata.json") == before | pinned
    assert yard.ship("push", "--owner", "ada", "--kernel-only").returncode == 0
    sent = yard.kaggle.body("SaveKernel")
    assert (sent["dockerImage"], sent["dockerImagePinningType"]) == ("an/image@sha256:1", "original")
    yard.kaggle.kernel_states = ["ERROR"]
    one_line(yard.ship("pin"), 1, "only the image of a complete run")
