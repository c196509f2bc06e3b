"""Ship to Kaggle: `kaggle_ship.py push | status | submit`, every request made by the installed `kaggle` client.

Notable:
- The owner stands in one place, the `id` of kernel-metadata.json. `push --owner YOU` writes it there and fills the copies that the
  client insists on (the kernel's own entry of dataset_sources, the `id` of offline_wheels/dataset-metadata.json), after which a plain
  `kaggle kernels push -p .` sends the same request. With `--pretrain` the kernel is that of notebook/pretrain/.
- `push` creates the dataset or adds a version to it, waits until that version is the current one and ready, and only then pushes the
  kernel: a kernel that starts earlier would mount the previous wheel.
- The client exits 0 after several failures (a file that did not upload, a source that Kaggle dropped, a push that it refused), so its
  words are read as well as its exit code.
- Exit 2 and one line for what is wrong here (files, owner, credentials); exit 1 and one line for what Kaggle refused or did not do in time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kaggle_kit.client import Answer, Client, RefusedError, ShipError
from kaggle_kit.package import MAIN, METADATA, PRETRAIN, WHEELS, Kernel, Package, dump

from hrm_submit.core.clock import Clock, format_duration, parse_duration
from hrm_submit.core.errors import UserError
from hrm_submit.core.files import write_atomic

RECORD = Path("build") / "kaggle" / "pushed.json"
OUTPUT = Path("build") / "kaggle" / "output"
TRANSFER_SECONDS = 4 * 3600.0

RUNNING_STATES = {"QUEUED", "RUNNING", "NEW_SCRIPT", "CANCEL_REQUESTED"}


class OneLineParser(argparse.ArgumentParser):
    """Faults of the command line told as all others are: one line, exit 2."""

    def error(self, message: str) -> NoReturn:
        raise ShipError(message)


def _say(text: str) -> None:
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
        _say(f"dataset {package.dataset}: creating it, {len(files)} files")
    else:
        old_version, words = before[1], ["datasets", "version", "-p", str(WHEELS), "-m", ", ".join(files)[:200]]
        _say(f"dataset {package.dataset}: adding a version after {old_version}, {len(files)} files")
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
            _say(f"dataset {package.dataset}: {seen}")
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
        _say(f"kernel {package.kernel}: Kaggle has no output of it yet to go on from, so this version starts afresh")
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
    _say(f"kernel {package.kernel}: version {version} pushed, {url}")
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
        _say(f"{WHEELS}: no checkpoint (*.safetensors): the notebook will train each task from scratch")
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
            _say(f"kernel {kernel.name}: {state}{f' ({failure})' if failure else ''}")
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
    _say("")
    _say(f"kernel {kernel.name}: version {version} submitted to {kernel.competition}")


def _recorded_version(root: Path, kernel: str) -> int:
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
        if record["kernel"] == kernel:
            return int(record["version"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ShipError(f"{RECORD}: records no pushed version of {kernel}; push first, or give --version N")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"not a version number: {text!r}")
    return int(text)


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _pretrain_option(command: argparse.ArgumentParser) -> None:
    help_text = "the notebook that pre-trains, not the one that is submitted"
    command.add_argument("--pretrain", dest="folder", action="store_const", const=PRETRAIN, default=MAIN, help=help_text)


def build_parser() -> argparse.ArgumentParser:
    """The command line, options of all three commands included."""
    parser = OneLineParser(description="Push the notebook and its dataset to Kaggle, follow the run, submit it.")
    commands = parser.add_subparsers(dest="command", required=True)
    common = OneLineParser(add_help=False)
    common.add_argument("--owner", help=f"your Kaggle user name; without it, the one in {METADATA}")
    common.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help=f"the folder of {METADATA}")
    common.add_argument("--poll", type=_duration, default=15.0, metavar="15s", help="time between two looks")
    common.add_argument("--wait", type=_duration, metavar="30m", help="how long to wait for the dataset (30m) or the run (13h)")
    command = commands.add_parser("push", parents=[common], help="dataset, then notebook")
    command.add_argument("--kernel-only", action="store_true", help="leave the dataset as it is")
    _pretrain_option(command)
    command.set_defaults(run=push)
    command = commands.add_parser("status", parents=[common], help=f"follow the run, then fetch its outputs into {OUTPUT}")
    command.add_argument("--once", action="store_true", help="one look, no waiting")
    _pretrain_option(command)
    command.set_defaults(run=status)
    command = commands.add_parser("submit", parents=[common], help="submit the version that was pushed last")
    command.add_argument("--version", type=_positive, help="another version of the notebook")
    command.add_argument("--file", default="submission.json", help="the output file that is scored")
    command.add_argument("--message", help="the description that Kaggle shows beside the score")
    command.set_defaults(run=submit)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 refused by Kaggle, 2 wrong input, 130 interrupted."""
    try:
        args = build_parser().parse_args(argv)
        if importlib.util.find_spec("kaggle") is None:
            raise ShipError("the Kaggle client is not installed here: pip install 'hrm-submit[home]'")
        args.root = args.root.resolve()
        args.run(args)
    except ShipError as error:
        _say(str(error))
        return 2
    except OSError as error:
        _say(f"{error.filename or 'kaggle_ship'}: {error.strerror or error}")
        return 2
    except RefusedError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("interrupted; what Kaggle has already been told goes on there")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
