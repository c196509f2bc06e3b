"""`kaggle_ship.py status`, `submit` and `pin` against a server on this machine."""

import json
import shutil

import pytest

from tests.scripts.kaggle_kit.kit import Kit, one_line


def test_status_follows_the_run_and_fetches_outputs_and_log(kit: Kit) -> None:
    kit.kaggle.kernel_states = ["QUEUED", "RUNNING", "RUNNING", "COMPLETE"]
    kit.kaggle.outputs = {"submission.json": b"{}", "run/events.jsonl": b"{}\n"}
    done = kit.ship("status", "--owner", "ada")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("kernel ada/hrm-submit:")]
    assert [line.rsplit(" ", 1)[1] for line in told] == ["QUEUED", "RUNNING", "COMPLETE"]
    assert kit.kaggle.methods().count("GetKernelSessionStatus") == 4
    output = kit.root / "build" / "kaggle" / "output"
    assert (output / "submission.json").read_bytes() == b"{}"
    assert (output / "run" / "events.jsonl").read_bytes() == b"{}\n"
    assert (output / "hrm-submit.log").read_text() == "the log"
    assert kit.kaggle.body("ListSubmissions")["competitionName"] == "arc-prize-2026-arc-agi-2"


@pytest.mark.parametrize("form", ["text", "json"])
def test_status_of_a_failed_run_says_why_and_shows_the_end_of_its_log(kit: Kit, form: str) -> None:
    lines = [f"line {n}" for n in range(40)] + ["RuntimeError: no challenges"]
    pieces = [{"stream_name": "stdout", "time": n, "data": line + "\n"} for n, line in enumerate(lines)]
    kit.kaggle.kernel_states, kit.kaggle.log = ["ERROR"], json.dumps(pieces) if form == "json" else "\n".join(lines)
    kit.kaggle.failure_message = "Your notebook tried to allocate more memory"
    done = kit.ship("status", "--owner", "ada")
    assert done.returncode == 1
    shown = done.stderr.splitlines()
    assert "ERROR: Your notebook tried to allocate more memory" in shown[-1]
    assert shown[-2] == "  RuntimeError: no challenges" and "  line 26" in shown and "  line 25" not in shown
    assert (kit.root / "build" / "kaggle" / "output" / "hrm-submit.log").read_text() == kit.kaggle.log


def test_status_says_what_happened_in_the_run_in_any_locale(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LC_ALL", "C"), ("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0")):
        monkeypatch.setenv(name, value)
    kit.kaggle.log = LOG
    run = {"versions": {"hrm_submit": "0.1.0", "torch": "2.9"}, "checkpoint": "/kaggle/input/nano.safetensors"}
    kit.kaggle.outputs = {"run/run.json": json.dumps(run).encode(), "report.html": b"<html>"}
    done = kit.ship("status", "--owner", "ada")
    assert done.returncode == 0, done.stderr
    facts = dict(line.split(maxsplit=1) for line in done.stderr.splitlines() if " " in line)
    assert (facts["version"], facts["weights"]) == ("hrm_submit 0.1.0 torch 2.9", "nano.safetensors")
    assert facts["mode"].startswith("smoke: 400 tasks") and facts["machine"] == "48 cores, 180 GiB, 4 GPUs"
    assert facts["problems"] == "0 GPUs are here instead of 4" and facts["score"] == "pass@1 25.0%, pass@2 50.0%"
    assert facts["answers"].startswith("3 of 3 tasks") and facts["report"].endswith("report.html") and facts["log"].endswith(".log")
    kit.kaggle.outputs, kit.kaggle.kernel_states = {}, ["ERROR"]
    said = kit.ship("status", "--owner", "ada").stderr
    assert "smoke: 400 tasks" in said and "nano.safetensors" not in said and "report.html" not in said, "the run before"


LOG = """machine: 48 cores, 180 GiB, 4 GPUs
smoke: 400 tasks in /kaggle/input/x.json, 0.10 h of which 85 s are kept in reserve
PROBLEM: 0 GPUs are here instead of 4
|███| 3/3
3 of 3 tasks answered by the model, 0 by fallback, in 5.0 s
{"pass@1": 0.25, "pass@2": 0.5, "task_pass@2": 0.9}"""


def test_submit_hands_over_the_version_that_was_pushed_or_another_and_tells_a_refusal(kit: Kit) -> None:
    assert kit.ship("push", "--owner", "ada", "--kernel-only").returncode == 0
    done = kit.ship("submit")
    assert done.returncode == 0, done.stderr
    sent = kit.kaggle.body("CreateCodeSubmission")
    assert "7" in str(kit.kaggle.body("GetKernelSessionStatus")["versionLabel"]), "its run, not the newest"
    expected = {"competitionName": "arc-prize-2026-arc-agi-2", "kernelOwner": "ada", "kernelSlug": "hrm-submit", "kernelVersion": 7}
    assert sent == expected | {"fileName": "submission.json", "submissionDescription": "ada/hrm-submit version 7"}
    assert "Successfully submitted" in done.stderr
    kit.kaggle.calls.clear()
    assert kit.ship("submit", "--version", "3", "--message", "longer TTT").returncode == 0
    sent = kit.kaggle.body("CreateCodeSubmission")
    assert (sent["kernelVersion"], sent["submissionDescription"]) == (3, "longer TTT")
    kit.kaggle.refuse = {"CreateCodeSubmission": 403}
    done = kit.ship("submit", "--version", "3")
    assert done.returncode == 1
    assert "competitions submit" in done.stderr.splitlines()[-1] and "403" in done.stderr.splitlines()[-1]


def test_submit_wants_a_version_and_a_complete_run_and_status_once_does_not_wait_for_it(kit: Kit) -> None:
    shutil.rmtree(kit.root / "offline_wheels")  # on another machine nothing may be built
    one_line(kit.ship("submit", "--owner", "ada"), 2, "pushed.json", "--version")
    one_line(kit.ship("submit", "--owner", "ada", "--version", "0"), 2, "version")
    kit.kaggle.kernel_states = ["RUNNING"]
    one_line(kit.ship("submit", "--owner", "ada", "--version", "3"), 1, "RUNNING", "complete")
    assert kit.ship("status", "--owner", "ada", "--once").returncode == 0
    methods = kit.kaggle.methods()
    assert methods.count("GetKernelSessionStatus") == 2 and not {"CreateCodeSubmission", "ListKernelSessionOutput"} & set(methods)


def test_a_failed_submission_says_why_and_the_log_is_followed(kit: Kit) -> None:
    common = {"date": "2026-11-01T10:00:00Z", "description": "longer TTT", "fileName": "submission.json"}
    failed = {"ref": 5, "status": "ERROR", "errorDescription": "Submission Scoring Error:\na row is missing", **common}
    kit.kaggle.submissions = [failed, {"ref": 4, "status": "COMPLETE", "publicScore": "12.5", **common}]
    done = kit.ship("status", "--owner", "ada", "--follow")
    assert done.returncode == 0 and any("log" in name.lower() for name in kit.kaggle.methods() + kit.kaggle.gets), done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("submission ")]
    assert told[0].startswith("submission 5 of 2026-11-01")
    assert told[0].endswith("longer TTT: ERROR: Submission Scoring Error: a row is missing")
    assert told[1].endswith("longer TTT: COMPLETE, score 12.5")
    recorded = json.loads((kit.root / "build" / "kaggle" / "submissions.json").read_text())
    assert [(str(row["ref"]), str(row["publicScore"] or "")) for row in recorded] == [("5", ""), ("4", "12.5")]


def test_the_image_of_a_good_run_is_pinned(kit: Kit) -> None:
    kit.kaggle.pulled = {"ref": "ada/hrm-submit", "dockerImage": "an/image@sha256:1", "language": "python", "kernelType": "notebook"}
    before = kit.json("kernel-metadata.json")
    done = kit.ship("pin", "--owner", "ada")
    assert done.returncode == 0, done.stderr
    pinned = {"docker_image": "an/image@sha256:1", "docker_image_pinning_type": "original"}
    assert kit.json("kernel-metadata.json") == before | pinned
    assert kit.ship("push", "--owner", "ada", "--kernel-only").returncode == 0
    sent = kit.kaggle.body("SaveKernel")
    assert (sent["dockerImage"], sent["dockerImagePinningType"]) == ("an/image@sha256:1", "original")
    kit.kaggle.kernel_states = ["ERROR"]
    one_line(kit.ship("pin"), 1, "only the image of a complete run")
