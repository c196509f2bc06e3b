"""Ship to Kaggle: `kaggle_ship.py push | status | submit | pin | compete`, every request made by the installed `kaggle` client.

Notable:
- The owner is set once, in the `id` of kernel-metadata.json. `push --owner YOU` writes it there and fills the copies that the
  client insists on (the kernel's own entry of dataset_sources, the `id` of offline_wheels/dataset-metadata.json), after which a plain
  `kaggle kernels push -p .` sends the same request. With `--pretrain` the kernel is that of notebook/pretrain/.
- `push` creates the dataset or adds a version to it, waits until that version is the current one and ready, and only then pushes the
  kernel: a kernel that starts earlier would mount the previous wheel.
- The client exits 0 after several failures (a file that did not upload, a source that Kaggle dropped, a push that it refused), so its
  words are read as well as its exit code.
- Exit 2 and one line for what is wrong here (files, owner, credentials); exit 1 and one line for what Kaggle refused or did not do in time.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from kaggle_kit import competition, follow, push
from kaggle_kit.client import RefusedError, ShipError, say
from kaggle_kit.kernel import MAIN, METADATA, PRETRAIN

from hrm_submit.cli import exit_status
from hrm_submit.core.clock import parse_duration
from hrm_submit.core.options import OneLineParser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"not a version number: {text!r}")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """The command line, options of all commands included."""
    parser = OneLineParser(description="Push the notebook and its dataset to Kaggle, follow the run, submit it.")
    commands = parser.add_subparsers(dest="command", required=True)
    place = OneLineParser(add_help=False)
    place.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help=f"the folder of {METADATA}")
    common = OneLineParser(add_help=False, parents=[place])
    common.add_argument("--owner", help=f"your Kaggle user name; without it, the one in {METADATA}")
    common.add_argument("--poll", type=parse_duration, default=15.0, metavar="15s", help="time between two polls")
    common.add_argument("--wait", type=parse_duration, metavar="30m", help="how long to wait for the dataset (30m) or the run (13h)")
    either = OneLineParser(add_help=False, parents=[common])
    help_text = "the notebook that pre-trains, not the one that is submitted"
    either.add_argument("--pretrain", dest="folder", action="store_const", const=PRETRAIN, default=MAIN, help=help_text)
    command = commands.add_parser("push", parents=[either], help="dataset, then notebook")
    command.add_argument("--kernel-only", action="store_true", help="push the notebook alone")
    command.add_argument("--dry-run", action="store_true", help="check all files and say what would be sent; needs no Kaggle account")
    command.add_argument("--timeout", type=parse_duration, metavar="20m", help="limit of a smoke run, not of a version to submit")
    command.set_defaults(run=push.push)
    command = commands.add_parser("status", parents=[either], help=f"follow the run, then fetch its outputs into {follow.OUTPUT}")
    command.add_argument("--once", action="store_true", help="poll once, do not wait")
    command.add_argument("--follow", action="store_true", help="show the run's log while it is written")
    command.set_defaults(run=follow.status)
    command = commands.add_parser("submit", parents=[common], help="submit the version that was pushed last")
    command.add_argument("--version", type=_positive, help="another version of the notebook")
    command.add_argument("--file", default="submission.json", help="the output file that is scored")
    command.add_argument("--message", help="the description that Kaggle shows beside the score")
    command.set_defaults(run=push.submit)
    command = commands.add_parser("pin", parents=[either], help="pin the image of the newest complete run for later pushes")
    command.set_defaults(run=follow.pin)
    command = commands.add_parser("compete", parents=[place], help="write another competition into kernel-metadata.json and the notebook")
    command.add_argument("competition", metavar="SLUG|F.toml", help="one of scripts/kaggle_kit/competitions/, or a TOML file like these")
    command.set_defaults(run=competition.compete)
    return parser


def carry_out(argv: Sequence[str] | None) -> int:
    """Run the command; returns 1 where Kaggle refused. Raises UserError, OSError."""
    args = build_parser().parse_args(argv)
    if args.command != "compete" and importlib.util.find_spec("kaggle") is None:
        raise ShipError("the Kaggle client is not installed here: make setup")
    args.root = args.root.resolve()
    try:
        args.run(args)
    except RefusedError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("what Kaggle has already been told goes on there")
        raise
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status("kaggle_ship", lambda: carry_out(argv), OSError)


if __name__ == "__main__":
    sys.exit(main())
