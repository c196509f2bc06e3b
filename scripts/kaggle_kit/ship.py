"""Push, follow, submit: what is asked of Kaggle, in which order, and what its answers mean.

Notable: `push` creates the dataset or adds a version to it, waits until that version is the current one and ready, and only then pushes
the kernel: one that starts earlier would mount the previous wheel. The client exits 0 after several failures (a file that did not
upload, a source that Kaggle dropped, a push that it refused), so its words are read as well as its exit code.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hrm_submit.core.clock import Clock, format_duration
from hrm_submit.core.files import write_atomic
from kaggle_kit.client import Answer, Client, RefusedError, ShipError
from kaggle_kit.package import MAIN, WHEELS, Kernel, Package, dump

RECORD = Path("build") / "kaggle" / "pushed.json"
OUTPUT = Path("build") / "kaggle" / "output"
TRANSFER_SECONDS = 4 * 3600.0
RUNNING_STATES = {"QUEUED", "RUNNING", "NEW_SCRIPT", "CANCEL_REQUESTED"}


def say(text: str) -> None:
    """Tell a person, on standard error."""
    print(text, file=sys.stderr, flush=True)


def _dataset_state(client: Client, dataset: str) -> tuple[str, int] | Answer:
    """Status word and current version of a dataset, or the answer of a client that could not tell."""
    answer = client.call("datasets", "status", dataset, "--format", "json")
    if answer.code == 0:
        try:
            state = json.loads(answer.text.strip().splitlines()[-1])
            return str(state["status"]), int(state["current_version_number"] or 0)
        except (ValueError, KeyError, IndexError, TypeError):
            return Answer(1, answer.text)
    return answer


def push_dataset(client: Client, package: Package, files: Sequence[str], *, poll: float, wait: float) -> None:
    """Create the dataset, or add a version to it, and wait until that version is current and ready."""
    before = _dataset_state(client, package.dataset)
    if isinstance(before, Answer):
        if re.search(r"\b(?:429 Client|5\d\d Server) Error|Too Many|Unavailable|Internal|Connection|Timeout", before.last_line):
            raise RefusedError(f"kaggle datasets status: {before.last_line}")
        # What does not exist is a 403 or a 404, in changing words. Kaggle creates no dataset twice, so a wrong guess costs nothing.
        old_version, words = 0, ["datasets", "create", "-p", str(WHEELS)]
        say(f"dataset {package.dataset}: creating it, {len(files)} files")
    else:
        old_version, words = before[1], ["datasets", "version", "-p", str(WHEELS), "-m", ", ".join(files)[:200]]
        say(f"dataset {package.dataset}: adding a version after {old_version}, {len(files)} files")
    answer = client.call(*words, limit=TRANSFER_SECONDS, show=True)
    fault = re.search(r"^(?:Upload unsuccessful|Skipping|Dataset (?:version )?creation error).*$", answer.text, re.MULTILINE)
    if answer.code or fault or "is being created" not in answer.text:
        raise RefusedError(f"kaggle {' '.join(words[:2])}: {fault[0] if fault else answer.last_line}")

    clock, last = Clock(wait), ""
    while True:
        state = _dataset_state(client, package.dataset)
        # For some seconds a dataset that is new may not be found: only time decides that it never will be.
        seen = f"{state[0]} (version {state[1]})" if isinstance(state, tuple) else state.last_line
        if seen != last:
            say(f"dataset {package.dataset}: {seen}")
            last = seen
        if isinstance(state, tuple) and state[1] > old_version:
            if state[0] == "ready":
                return
            if state[0] in ("failed", "deleted"):
                raise RefusedError(f"dataset {package.dataset}: Kaggle could not process version {state[1]}: {state[0]}")
        if clock.remaining() <= poll:
            raise RefusedError(
                f"dataset {package.dataset}: no new version ready after {format_duration(wait)}, last seen {seen}; "
                "once its page shows the version, push with --kernel-only"
            )
        time.sleep(poll)


def push_kernel(client: Client, package: Package) -> int:
    """Push the notebook; returns its version number on Kaggle, which for the one to be submitted is also recorded."""
    answer = client.call("kernels", "push", "-p", package.folder.as_posix())
    text = answer.text
    # A kernel that reads its own output has none before its first version has ended.
    first = re.search(rf"^.*not valid kernel sources.*: \['{re.escape(package.kernel)}'\]$", text, re.MULTILINE)
    if first:
        say(f"kernel {package.kernel}: Kaggle has no output of it yet to go on from, so this version starts afresh")
        text = text.replace(first[0], "")
    dropped = re.search(r"^.*not valid (?:dataset|competition|kernel) sources.*$", text, re.MULTILINE)
    pushed = re.search(r"Kernel version (\d+) successfully pushed\.\s+Please check progress at (\S+)", answer.text)
    if answer.code or dropped or not pushed:
        raise RefusedError(f"kaggle kernels push: {dropped[0] if dropped else answer.last_line}")
    version, url = int(pushed[1]), pushed[2]
    if package.folder == MAIN:
        record = package.root / RECORD
        record.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(record, dump({"kernel": package.kernel, "version": version, "url": url}))
    say(f"kernel {package.kernel}: version {version} pushed, {url}")
    return version


def push(args: argparse.Namespace) -> None:
    """`push`: files checked first, then the dataset, then the kernel."""
    package = Package.read(args.root, args.owner, args.folder)
    files = package.check_wheels()
    client = Client(args.root)
    # Asked before anything is written or sent: this command needs credentials and changes nothing.
    answer = client.call("config", "view")
    if answer.code:
        raise RefusedError(f"kaggle config view: {answer.last_line}")
    package.write()
    if package.folder == MAIN and not any(name.endswith(".safetensors") for name in files):
        say(f"{WHEELS}: no checkpoint (*.safetensors): the notebook will train each task from scratch")
    if not args.kernel_only:
        push_dataset(client, package, files, poll=args.poll, wait=args.wait or 1800.0)
    push_kernel(client, package)


def kernel_state(client: Client, kernel: str) -> tuple[str, str]:
    """The state of a kernel's newest run (QUEUED, RUNNING, COMPLETE, ERROR, ...) and its failure message or ""."""
    answer = client.call("kernels", "status", kernel)
    state = re.search(r'has status "(?:\w+\.)?(\w+)"', answer.text)
    if answer.code or not state:
        raise RefusedError(f"kaggle kernels status: {answer.last_line}")
    failure = re.search(r'Failure message: "(.*)"', answer.text)
    return state[1].upper(), failure[1] if failure else ""


def status(args: argparse.Namespace) -> None:
    """`status`: follow the newest run to its end, fetch its outputs and log, list the submissions."""
    kernel = Kernel.read(args.root, args.owner, args.folder)
    client = Client(args.root)
    wait = args.wait or 13 * 3600.0
    clock, last = Clock(wait), ""
    while True:
        state, failure = kernel_state(client, kernel.name)
        if state != last:
            say(f"kernel {kernel.name}: {state}{f' ({failure})' if failure else ''}")
            last = state
        if state not in RUNNING_STATES or args.once:
            break
        if clock.remaining() <= args.poll:
            raise RefusedError(f"kernel {kernel.name}: still {state} after {format_duration(wait)}")
        time.sleep(args.poll)
    if state not in RUNNING_STATES:
        answer = client.call("kernels", "output", kernel.name, "-p", str(OUTPUT), "--force", limit=TRANSFER_SECONDS, show=True)
        if answer.code:
            raise RefusedError(f"kaggle kernels output: {answer.last_line}")
        if state != "COMPLETE":
            raise RefusedError(f"kernel {kernel.name}: {state}{f': {failure}' if failure else ''}; its log is in {OUTPUT}")
    if args.folder == MAIN:
        # A list that cannot be had (the rules not yet accepted, say) is no fault of the run that was asked about.
        client.call("competitions", "submissions", kernel.competition, show=True)


def submit(args: argparse.Namespace) -> None:
    """`submit`: hand a finished kernel version to the competition, which runs it again on the hidden tasks."""
    kernel = Kernel.read(args.root, args.owner)
    client = Client(args.root)
    version = args.version or _recorded_version(args.root, kernel.name)
    state, failure = kernel_state(client, kernel.name)
    if state != "COMPLETE":
        raise RefusedError(f"kernel {kernel.name}: {state}{f': {failure}' if failure else ''}; only a complete run can be submitted")
    message = args.message or f"{kernel.name} version {version}"
    words = ("competitions", "submit", kernel.competition, "-k", kernel.name, "-v", str(version), "-f", args.file, "-m", message)
    answer = client.call(*words, show=True)
    if answer.code or "Could not find competition" in answer.text:
        raise RefusedError(f"kaggle competitions submit: {answer.last_line}")
    say("")
    say(f"kernel {kernel.name}: version {version} submitted to {kernel.competition}")


def _recorded_version(root: Path, kernel: str) -> int:
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
        if record["kernel"] == kernel:
            return int(record["version"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ShipError(f"{RECORD}: records no pushed version of {kernel}; push first, or give --version N")
