"""`push` and `submit`: what is asked of Kaggle, in which order, and what its answers mean (`scripts/kaggle_ship.py` says why so)."""

import argparse
import contextlib
import json
import re
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hrm_submit.core.clock import Clock, format_duration
from hrm_submit.core.files import write_atomic
from hrm_submit.model.packaged import CHECKPOINTS

from .client import Answer, RefusedError, ShipError, kaggle, say
from .competition import say_if_closed
from .kernel import MAIN, METADATA, WHEELS, Kernel, Package, dump

RECORD = Path("build") / "kaggle" / "pushed.json"
TRANSFER_SECONDS = 4 * 3600.0


def _dataset_state(root: Path, dataset: str) -> tuple[str, int, Answer]:
    """Status word and current version of a dataset, "" and 0 where the client could not tell, and what it answered."""
    answer = kaggle(root, "datasets", "status", dataset, "--format", "json")
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError):
        state = json.loads(answer.text.strip().splitlines()[-1])
        return str(state["status"]), int(state["current_version_number"] or 0), answer
    return "", 0, answer


def push_dataset(package: Package, files: Sequence[str], *, poll: float, wait: float) -> None:
    """Create the dataset, or add a version to it, and wait until that version is current and ready."""
    word, old_version, before = _dataset_state(package.root, package.dataset)
    if word:
        words = ["datasets", "version", "-p", str(WHEELS), "-m", ", ".join(files)[:200]]
        say(f"dataset {package.dataset}: adding a version after {old_version}, {len(files)} files")
    elif before.status in (403, 404):
        # Only these two say that it does not exist: a limit of requests, a missing name server or a TLS fault say nothing of it.
        words = ["datasets", "create", "-p", str(WHEELS)]
        say(f"dataset {package.dataset}: creating it, {len(files)} files")
    else:
        raise RefusedError(f"kaggle datasets status: {before.reason}")
    answer = kaggle(package.root, *words, limit=TRANSFER_SECONDS, show=True)
    fault = re.search(r"^(?:Upload unsuccessful|Skipping|Dataset (?:version )?creation error).*$", answer.text, re.MULTILINE)
    if answer.code or fault or "is being created" not in answer.text:
        raise RefusedError(f"kaggle {' '.join(words[:2])}: {fault[0] if fault else answer.reason}")

    clock, last = Clock(wait), ""
    while True:
        word, version, answer = _dataset_state(package.root, package.dataset)
        # For some seconds a dataset that is new may not be found: only time decides that it never will be.
        described = f"{word} (version {version})" if word else answer.reason
        if described != last:
            say(f"dataset {package.dataset}: {described}")
            last = described
        if version > old_version and word == "ready":
            return
        if version > old_version and word in ("failed", "deleted"):
            raise RefusedError(f"dataset {package.dataset}: Kaggle could not process version {version}: {word}")
        if clock.remaining() <= poll:
            raise RefusedError(
                f"dataset {package.dataset}: no new version ready after {format_duration(wait)}, last seen {described}; "
                "once its page shows the version, push with --kernel-only"
            )
        time.sleep(poll)


def push_kernel(package: Package, timeout: float | None = None) -> None:
    """Push the notebook and record its version, if it is the one to be submitted. `timeout` (seconds) limits this version's run."""
    limit = ["--timeout", str(int(timeout))] if timeout else []
    answer = kaggle(package.root, "kernels", "push", "-p", package.folder.as_posix(), *limit)
    text = answer.text
    # A kernel that reads its own output has none before its first version has ended.
    first = re.search(rf"^.*not valid kernel sources.*: \['{re.escape(package.kernel)}'\]$", text, re.MULTILINE)
    if first:
        say(f"kernel {package.kernel}: Kaggle has no output of it yet to continue from, so this version starts from random weights")
        text = text.replace(first[0], "")
    dropped = re.search(r"^.*not valid (?:dataset|competition|kernel) sources.*$", text, re.MULTILINE)
    pushed = re.search(r"Kernel version (\d+) successfully pushed\.\s+Please check progress at (\S+)", text)
    if answer.code or dropped or not pushed:
        raise RefusedError(f"kaggle kernels push: {dropped[0] if dropped else answer.reason}")
    for line in text.replace(pushed[0], "").splitlines():
        if line.strip():
            say(f"kaggle kernels push: {line.strip()}")
    version, url = int(pushed[1]), pushed[2]
    parts = urlsplit(url).path.strip("/").split("/")
    real = "/".join(parts[-2:]) if len(parts) > 1 else package.kernel
    if real.lower() != package.kernel.lower():
        say(f"kernel {package.kernel}: Kaggle calls it {real}, by its title; so do status and submit from now on")
    if package.folder == MAIN:
        record = package.root / RECORD
        record.parent.mkdir(parents=True, exist_ok=True)
        smoke = {"timeout": timeout} if timeout else {}
        write_atomic(record, dump({"kernel": real, "asked": package.kernel, "version": version, "url": url, **smoke}))
    say(f"kernel {real}: version {version} pushed, {url}")


def real_name(root: Path, kernel: str) -> str:
    """What Kaggle calls the kernel that was pushed under the name `kernel`."""
    record = _record(root)
    return str(record.get("kernel", kernel)) if record.get("asked", kernel) == kernel else kernel


def show_quota(root: Path) -> None:
    """Tell what is left of the week's GPU hours, where the client can say."""
    answer = kaggle(root, "quota", "--format", "json")
    for gpu in [row for row in answer.rows or () if row.get("resource") == "GPU"] if answer.code == 0 else ():
        say(f"GPU quota: {gpu.get('remaining')} of {gpu.get('total')} are left until {gpu.get('refreshAt')}")


def _say_what_would_be_sent(package: Package, files: Sequence[str], kernel_only: bool) -> None:
    if not kernel_only:
        size = sum((package.root / WHEELS / name).stat().st_size for name in files) / 2**20
        say(f"dataset {package.dataset}: would upload {len(files)} files, {size:.1f} MiB: {', '.join(files)}")
    kernel = json.loads(package.texts[(package.folder / METADATA).as_posix()])
    code = (package.folder / kernel["code_file"]).as_posix()
    sources = [source for key in ("competition_sources", "dataset_sources", "kernel_sources") for source in kernel.get(key) or ()]
    machine = kernel.get("machine_shape", "a machine of Kaggle's choice")
    say(f"kernel {package.kernel}: would push {code} to run on {machine} with {', '.join(map(str, sources))}")
    say("nothing was sent: this was a dry run")


def shipped_weights(files: Sequence[str]) -> str:
    """Say which weights are among the dataset's `files`, and how to ship the competition's again."""
    found = [name for name in files if name.endswith(".safetensors")]
    if not found:
        return "none: the notebook trains each task from random weights"
    packaged = {path.name for path in CHECKPOINTS.glob("*.safetensors")}
    own = [name for name in found if name not in packaged]
    back = f"; to ship the competition's again: rm {' '.join(str(WHEELS / name) for name in own)}, then make wheels" if own else ""
    return ", ".join(f"{name} (your own)" if name in own else name for name in found) + back


def push(args: argparse.Namespace) -> None:
    """`push`: files checked first, then the dataset, then the kernel."""
    package = Package.read(args.root, args.owner, args.folder)
    files = package.check_wheels()
    say_if_closed(Kernel.read(args.root, args.owner).competition, date.today())
    if not args.kernel_only and args.folder == MAIN:
        say(f"weights: {shipped_weights(files)}")
    if args.dry_run:
        _say_what_would_be_sent(package, files, args.kernel_only)
        return
    # Asked before anything is written or sent: this command needs credentials and changes nothing.
    answer = kaggle(args.root, "config", "view")
    if answer.code:
        raise RefusedError(f"kaggle config view: {answer.reason}")
    package.write()
    if not args.kernel_only:
        push_dataset(package, files, poll=args.poll, wait=args.wait or 1800.0)
    show_quota(args.root)
    push_kernel(package, args.timeout)


def kernel_state(root: Path, kernel: str) -> tuple[str, str]:
    """The state of a run of `kernel` (QUEUED, RUNNING, COMPLETE, ERROR, ...), and the same with its failure message."""
    answer = kaggle(root, "kernels", "status", kernel)
    state = re.search(r'has status "(?:\w+\.)?(\w+)"', answer.text)
    if answer.code or not state:
        raise RefusedError(f"kaggle kernels status: {answer.reason}")
    failure, word = re.search(r'Failure message: "(.+)"', answer.text), state[1].upper()
    return word, f"{word}: {failure[1]}" if failure else word


def require_complete(root: Path, kernel: str, but: str) -> None:
    """Raise RefusedError, which ends with `but`, unless the run of `kernel` (`OWNER/SLUG`, or a version of it) ended well."""
    state, described = kernel_state(root, kernel)
    if state != "COMPLETE":
        raise RefusedError(f"kernel {kernel}: {described}; {but}")


def submit(args: argparse.Namespace) -> None:
    """`submit`: hand a finished kernel version to the competition, which runs it again on the hidden tasks."""
    root, kernel = args.root, Kernel.read(args.root, args.owner)
    name, record = real_name(root, kernel.name), _record(root)
    version = args.version or (record.get("version") if record.get("kernel") == name else None)
    if not isinstance(version, int):
        raise ShipError(f"{RECORD}: records no pushed version of {name}; push first, or give --version N")
    if not args.version and (limit := record.get("timeout")):
        told = f"version {version} was pushed with --timeout {format_duration(limit)}"
        raise ShipError(f"{told}; push again without, or give --version {version}")
    require_complete(root, f"{name}/{version}", "only a complete run can be submitted")
    say_if_closed(kernel.competition, date.today())
    message = args.message or f"{name} version {version}"
    words = ("competitions", "submit", kernel.competition, "-k", name, "-v", str(version), "-f", args.file, "-m", message)
    answer = kaggle(root, *words, show=True)
    if answer.code or "Could not find competition" in answer.text:
        raise RefusedError(f"kaggle competitions submit: {answer.reason}")
    say(f"\nkernel {name}: version {version} submitted to {kernel.competition}")


def _record(root: Path) -> dict[str, Any]:
    """What was pushed last: `kernel`, the name `asked` for it, `version`, `url`, and `timeout` of a smoke run."""
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
