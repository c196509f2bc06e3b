"""The command line: `hrm-submit` = `python -m hrm_submit`, a table of commands. Imports nothing heavy to show its help.

Exit status: 0; 1 if `validate` found faults, or `solve` got no answer from the model or had to be ended at its time limit (3 if its file is
not complete then); 2 for wrong input, with one line on standard error; 130 for Ctrl-C.
"""

import argparse
import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hrm_submit import commands
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import large_pages_for_children
from hrm_submit.core.errors import UserError, clipped
from hrm_submit.core.options import OneLineParser, add_options, from_args
from hrm_submit.report.options import MergeOptions, ReportOptions, RunsOptions, ShowOptions, WatchOptions
from hrm_submit.run.options import SolveOptions
from hrm_submit.train.options import PretrainOptions
from hrm_submit.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, or without `argv`, as the entry of a process, ends the process with it."""
    status = _run(argv)
    if argv is None:
        # The orderly teardown of torch takes a second or two on a busy machine, which a time budget has not got.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(status)
    return status


def _run(argv: Sequence[str] | None) -> int:
    clock = Clock()
    # Threads that spin while they wait take the cores from other workers; must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    large_pages_for_children()
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_short)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of fonts and units, which nobody asked for
    return exit_status("hrm-submit", lambda: _run_command(sys.argv[1:] if argv is None else argv, clock))


def _run_command(argv: Sequence[str], clock: Clock) -> int:
    if not argv:
        _parser().print_help()
        return 0
    args = _parser().parse_args(argv)
    args.command_line = shlex.join(["hrm-submit", *argv])
    return int(args.run(from_args(args.options, args), clock))


def _short(record: logging.LogRecord) -> bool:
    """Clip a line of the log to the length of a message."""
    record.msg, record.args = clipped(record.getMessage()), ()
    return True


def exit_status(program: str, work: Callable[[], int], *wrong: type[Exception]) -> int:
    """Run `work`, tell an error in one line; returns its status, 2 for a UserError or one of `wrong`, 130 for Ctrl-C, else 1."""
    try:
        return work()
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if isinstance(error, (UserError, *wrong)):
            text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
            print(clipped(f"{program}: {text}"), file=sys.stderr)
            return 2
        if os.environ.get("HRM_SUBMIT_DEBUG"):
            raise
        text = clipped(str(error).split("\n", 1)[0], 200)
        print(f"{program}: {type(error).__name__}: {text} (a traceback: HRM_SUBMIT_DEBUG=1)", file=sys.stderr)
        return 1


COMMANDS: tuple[tuple[str, str, type, Callable[[Any, Clock], int]], ...] = (
    ("solve", "solve a challenges file into a submission file", SolveOptions, commands.solve),
    ("score", "score a submission file: prints one JSON object", commands.ScoreOptions, commands.score),
    ("validate", "check a submission file: prints one line for each fault", commands.ValidateOptions, commands.validate),
    ("pretrain", "train on ARC tasks; leaves a checkpoint to solve with", PretrainOptions, commands.pretrain),
    ("import-checkpoint", "convert a published HRM checkpoint", commands.ImportOptions, commands.import_checkpoint),
    ("convert", "convert tasks of any form into Kaggle's challenges and solutions files", commands.ConvertOptions, commands.convert),
    ("merge", "merge the submissions of several solvers", MergeOptions, commands.merge),
    ("report", "look at a run: one HTML file that opens anywhere", ReportOptions, commands.report),
    ("show", "a task or a run as coloured blocks", ShowOptions, commands.show),
    ("runs", "list the runs and submissions below a folder, or compare two runs", RunsOptions, commands.runs),
    ("presets", "print the presets of the package", commands.PresetsOptions, commands.presets),
    ("watch", "follow a run of solve or pretrain from another terminal", WatchOptions, commands.watch),
)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hrm-submit", description="Solve ARC tasks with a Hierarchical Reasoning Model, inside a time limit.")
    parser.add_argument("--version", action="version", version=f"hrm-submit {__version__}")
    kinds = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, summary, options, run in COMMANDS:
        command = kinds.add_parser(name, help=summary)
        add_options(command, options)
        command.set_defaults(run=run, options=options)
    return parser
