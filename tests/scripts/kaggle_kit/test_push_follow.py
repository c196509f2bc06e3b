"""`kaggle_ship.py status`, `submit` and `pin` against a server on this machine, with the newest and the oldest client."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.scripts.kaggle_kit.yard import Yard, newest_client, one_line


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
