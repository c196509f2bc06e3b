"""Follow what was pushed: a run to its end, its outputs and log, the submissions and why one failed, the image that a run had."""

import argparse
import contextlib
import json
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from hrm_submit.core.clock import Clock, format_duration
from hrm_submit.core.files import write_atomic
from hrm_submit.record.folder import weights_of

from .client import RefusedError, kaggle, say
from .kernel import MAIN, METADATA, Kernel, dump
from .push import TRANSFER_SECONDS, kernel_state, real_name, require_complete, show_quota

OUTPUT = Path("build") / "kaggle" / "output"
SUBMISSIONS = Path("build") / "kaggle" / "submissions.json"
RUNNING_STATES = {"QUEUED", "RUNNING", "NEW_SCRIPT", "CANCEL_REQUESTED"}
LOG_LINES = 15
ERRORS_EXPLAINED = 3
"""The newest failed submissions, which are asked for why they failed."""


def status(args: argparse.Namespace) -> None:
    """`status`: follow the newest run to its end, fetch its outputs and log, list the submissions."""
    root, kernel = args.root, Kernel.read(args.root, args.owner, args.folder)
    name, wait = real_name(root, kernel.name), args.wait or 13 * 3600.0
    clock, last = Clock(wait), ""
    if args.follow and not args.once:
        follow_log(root, name, wait)
    while True:
        state, described = kernel_state(root, name)
        if state != last:
            say(f"kernel {name}: {described}")
            last = state
        if state not in RUNNING_STATES or args.once:
            break
        if clock.remaining() <= args.poll:
            raise RefusedError(f"kernel {name}: still {state} after {format_duration(wait)}")
        time.sleep(args.poll)
    if state not in RUNNING_STATES:
        if args.folder == MAIN:  # what an earlier version left says nothing of this one
            shutil.rmtree(root / OUTPUT / "run", ignore_errors=True)
            for old in ("report.html", "submission.json"):
                (root / OUTPUT / old).unlink(missing_ok=True)
        answer = kaggle(root, "kernels", "output", name, "-p", str(OUTPUT), "--force", limit=TRANSFER_SECONDS, show=True)
        if answer.code:
            raise RefusedError(f"kaggle kernels output: {answer.reason}")
        log = root / OUTPUT / f"{name.split('/')[1]}.log"
        for fact, value in what_happened(root / OUTPUT if args.folder == MAIN else None, log):
            say(f"{fact:<10} {value}")
        if state != "COMPLETE":
            for line in log_text(log)[-LOG_LINES:]:
                say(f"  {line}")
            raise RefusedError(f"kernel {name}: {described}; its log is in {OUTPUT}")
    if args.folder == MAIN:
        # A list that cannot be had (the rules not yet accepted, say) is no fault of the run that was asked about.
        show_submissions(root, kernel.competition)
        show_quota(root)


def follow_log(root: Path, name: str, wait: float) -> None:
    """Pass the log of a run on as it is written."""
    answer = kaggle(root, "kernels", "logs", name, "--follow", limit=wait, show=True)
    if answer.code:
        say(f"kaggle kernels logs: {answer.reason}")


def what_happened(output: Path | None, log: Path) -> list[tuple[str, str]]:
    """Read from the `output` folder of a run of `solve` (None: of another notebook) and from its `log` what ran where, what went wrong,
    what it scored and where to look: (fact, value)."""
    lines, run, report = log_text(log), dict[str, Any](), ""
    if output:
        with contextlib.suppress(OSError, ValueError):
            run = json.loads((output / "run" / "run.json").read_bytes())
        report = str(output / "report.html") if (output / "report.html").is_file() else ""
    machine, problems = ([line.removeprefix(word) for line in lines if line.startswith(word)] for word in ("machine: ", "PROBLEM: "))
    modes = [line for line in lines if re.match(r"(smoke|rehearse|scored): ", line)]
    answered = [line for line in lines if re.match(r"\d+ of \d+ tasks answered", line)]
    scores = re.findall(r'"(pass@[12])": ([\d.]+)', "\n".join(lines))
    facts = {
        "version": " ".join(f"{name} {value}" for name, value in run["versions"].items()) if "versions" in run else "",
        "mode": modes[-1] if modes else "",
        "machine": ", ".join(filter(None, [*machine, str(run.get("machine", ""))])),
        "weights": ", ".join(Path(path).name for path in weights_of(run)) if run else "",
        "answers": answered[-1] if answered else "",
        "score": ", ".join(f"{name} {float(value):.1%}" for name, value in scores[-2:]),
        "problems": "none" if lines and not problems else "; ".join(problems),
        "log": str(log),
        "report": report,
    }
    return [(fact, value) for fact, value in facts.items() if value]


def log_text(path: Path) -> list[str]:
    """The lines of a run's log: of its JSON, one object for each piece of output, or of plain text."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    with contextlib.suppress(ValueError, TypeError, KeyError):
        text = "".join(piece["data"] for piece in json.loads(text))
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def show_submissions(root: Path, competition: str) -> None:
    """List the submissions, record them for `hrm-submit runs`, and tell why the newest that failed did."""
    answer = kaggle(root, "competitions", "submissions", competition, "--format", "json")
    rows = answer.rows if answer.code == 0 else None
    if rows is None:
        say(f"submissions: {answer.reason}")
        return
    (root / SUBMISSIONS).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(root / SUBMISSIONS, json.dumps(rows, indent=1) + "\n")
    unexplained = ERRORS_EXPLAINED
    for row in rows:
        state = str(row.get("status", "")).rsplit(".", 1)[-1]
        score = f", score {row['publicScore']}" if row.get("publicScore") not in (None, "") else ""
        why = ""
        if state == "ERROR" and unexplained:
            unexplained, why = unexplained - 1, f": {why_failed(root, row.get('ref'))}"
        say(f"submission {row.get('ref')} of {row.get('date')}, {row.get('description')}: {state}{score}{why}")


def why_failed(root: Path, ref: object) -> str:
    """What Kaggle says of a submission that failed, in one line."""
    answer = kaggle(root, "competitions", "submission", str(ref))
    error = re.search(r"^Error:\s*(.*(?:\n[ \t]+.*)*)", answer.text, re.MULTILINE)
    if answer.code == 0:
        return " ".join(error[1].split()) if error else "Kaggle gives no reason"
    return answer.reason


def pin(args: argparse.Namespace) -> None:
    """`pin`: write the image that the newest run had, which must have ended well, into the metadata, so that later pushes keep it."""
    root, file = args.root, args.root / args.folder / METADATA
    name = real_name(root, Kernel.read(root, args.owner, args.folder).name)
    require_complete(root, name, "only the image of a complete run is pinned")
    with tempfile.TemporaryDirectory() as folder:
        answer = kaggle(root, "kernels", "pull", name, "-p", folder, "-m")
        pulled = Path(folder, METADATA)
        if answer.code or not pulled.is_file():
            raise RefusedError(f"kaggle kernels pull: {answer.reason}")
        image = json.loads(pulled.read_text(encoding="utf-8")).get("docker_image")
    if not image:
        raise RefusedError(f"kernel {name}: Kaggle names no image of it")
    metadata = json.loads(file.read_text(encoding="utf-8"))
    write_atomic(file, dump(metadata | {"docker_image": image, "docker_image_pinning_type": "original"}))
    say(f"{(args.folder / METADATA).as_posix()}: docker_image is {image}; delete both docker_image keys to take Kaggle's newest again")
