"""Follow what was pushed: a run to its end, its outputs and log, the submissions and why one failed, the image that a run had."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hrm_submit.core.clock import Clock, format_duration
from hrm_submit.core.files import write_atomic

from .client import Client, RefusedError, say
from .kernel import MAIN, METADATA, Kernel, dump
from .push import TRANSFER_SECONDS, kernel_state, real_name, require_complete

OUTPUT = Path("build") / "kaggle" / "output"
RUNNING_STATES = {"QUEUED", "RUNNING", "NEW_SCRIPT", "CANCEL_REQUESTED"}
LOG_LINES = 15
ERRORS_EXPLAINED = 3
"""The newest failed submissions, which are asked for why they failed."""


def status(args: argparse.Namespace) -> None:
    """`status`: follow the newest run to its end, fetch its outputs and log, list the submissions."""
    kernel = Kernel.read(args.root, args.owner, args.folder)
    client, name = Client(args.root), real_name(args.root, kernel.name)
    wait = args.wait or 13 * 3600.0
    clock, last = Clock(wait), ""
    if args.follow and not args.once:
        follow_log(client, name, wait)
    while True:
        state, described = kernel_state(client, name)
        if state != last:
            say(f"kernel {name}: {described}")
            last = state
        if state not in RUNNING_STATES or args.once:
            break
        if clock.remaining() <= args.poll:
            raise RefusedError(f"kernel {name}: still {state} after {format_duration(wait)}")
        time.sleep(args.poll)
    if state not in RUNNING_STATES:
        answer = client.call("kernels", "output", name, "-p", str(OUTPUT), "--force", limit=TRANSFER_SECONDS, show=True)
        if answer.code:
            raise RefusedError(f"kaggle kernels output: {answer.reason}")
        if state != "COMPLETE":
            for line in log_tail(args.root / OUTPUT / f"{name.split('/')[1]}.log"):
                say(f"  {line}")
            raise RefusedError(f"kernel {name}: {described}; its log is in {OUTPUT}")
    if args.folder == MAIN:
        # A list that cannot be had (the rules not yet accepted, say) is no fault of the run that was asked about.
        show_submissions(client, kernel.competition)


def follow_log(client: Client, name: str, wait: float) -> None:
    """Pass the log of a run on as it is written, where the client can."""
    if "--follow" not in client.call("kernels", "logs", "--help").text:
        say("this Kaggle client cannot follow a log: pip install -U kaggle")
        return
    answer = client.call("kernels", "logs", name, "--follow", limit=wait, show=True)
    if answer.code:
        say(f"kaggle kernels logs: {answer.reason}")


def log_tail(path: Path) -> list[str]:
    """The last lines of a run's log: of its JSON, one object for each piece of output, or of plain text."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    with contextlib.suppress(ValueError, TypeError, KeyError):
        text = "".join(piece["data"] for piece in json.loads(text))
    return [line.rstrip() for line in text.splitlines() if line.strip()][-LOG_LINES:]


def show_submissions(client: Client, competition: str) -> None:
    """List the submissions, and tell why the newest that failed did."""
    answer = client.call("competitions", "submissions", competition, "--format", "json")
    rows = _rows(answer.text) if answer.code == 0 else None
    if rows is None:
        say(f"submissions: {answer.reason}")
        return
    unexplained = ERRORS_EXPLAINED
    for row in rows:
        state = str(row.get("status", "")).rsplit(".", 1)[-1]
        score = f", score {row['publicScore']}" if row.get("publicScore") not in (None, "") else ""
        why = ""
        if state == "ERROR" and unexplained:
            unexplained, why = unexplained - 1, f": {why_failed(client, row.get('ref'))}"
        say(f"submission {row.get('ref')} of {row.get('date')}, {row.get('description')}: {state}{score}{why}")


def why_failed(client: Client, ref: object) -> str:
    """What Kaggle says of a submission that failed, in one line; newer clients (2.2.5) can ask."""
    answer = client.call("competitions", "submission", str(ref))
    error = re.search(r"^Error:\s*(.*(?:\n[ \t]+.*)*)", answer.text, re.MULTILINE)
    if answer.code == 0:
        return " ".join(error[1].split()) if error else "Kaggle gives no reason"
    return answer.reason if answer.status else "kaggle 2.2.5 or newer can tell why"


def _rows(text: str) -> list[Mapping[str, Any]] | None:
    if "[" not in text and "No submissions" in text:
        return []
    with contextlib.suppress(ValueError):
        return [row for row in json.loads(text[text.index("[") :]) if isinstance(row, dict)]
    return None


def pin(args: argparse.Namespace) -> None:
    """`pin`: write the image that the newest run had, which must have ended well, into the metadata, so that later pushes keep it."""
    kernel = Kernel.read(args.root, args.owner, args.folder)
    client, name = Client(args.root), real_name(args.root, kernel.name)
    require_complete(client, name, "only the image of a complete run is pinned")
    with tempfile.TemporaryDirectory() as folder:
        answer = client.call("kernels", "pull", name, "-p", folder, "-m")
        pulled = Path(folder, METADATA)
        if answer.code or not pulled.is_file():
            raise RefusedError(f"kaggle kernels pull: {answer.reason}")
        image = json.loads(pulled.read_text(encoding="utf-8")).get("docker_image")
    if not image:
        raise RefusedError(f"kernel {name}: Kaggle names no image of it")
    file = args.root / args.folder / METADATA
    metadata = json.loads(file.read_text(encoding="utf-8"))
    write_atomic(file, dump(metadata | {"docker_image": image, "docker_image_pinning_type": "original"}))
    say(f"{(args.folder / METADATA).as_posix()}: docker_image is {image}; delete both docker_image keys to take Kaggle's newest again")
