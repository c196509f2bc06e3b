"""The command line: `hrm-submit` = `python -m hrm_submit`. Parses, calls, prints; imports nothing heavy to show its help.

Exit status: 0; 1 if `validate` found faults or `solve` got no answer from the model; 2 for wrong input, with one line on
standard error; 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from hrm_submit import commands
from hrm_submit.core.allocator import large_pages_for_children
from hrm_submit.core.clock import Clock
from hrm_submit.core.errors import UserError, clipped
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
    args = _parser().parse_args(argv)
    args.command_line = shlex.join(["hrm-submit", *(sys.argv[1:] if argv is None else argv)])
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_short)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of fonts and units, which nobody asked for
    return exit_status("hrm-submit", lambda: int(args.run(args, clock)))


def _short(record: logging.LogRecord) -> bool:
    """Every line of the log within the length of a message."""
    record.msg, record.args = clipped(record.getMessage()), ()
    return True


def exit_status(program: str, work: Callable[[], int], *wrong: type[Exception]) -> int:
    """What `work` returns, or for an error, which is told in one line: 2 for a UserError or one of `wrong`, 130 for Ctrl-C, else 1."""
    try:
        return work()
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if isinstance(error, (UserError, *wrong)):
            words = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
            print(clipped(f"{program}: {words}"), file=sys.stderr)
            return 2
        if os.environ.get("HRM_SUBMIT_DEBUG"):
            raise
        text = clipped(str(error).split("\n", 1)[0], 200)
        print(f"{program}: {type(error).__name__}: {text} (a traceback: HRM_SUBMIT_DEBUG=1)", file=sys.stderr)
        return 1


class OneLineParser(argparse.ArgumentParser):
    """Refuses wrong options in one line, as all other wrong input is refused."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 2**63:
        raise argparse.ArgumentTypeError(f"{text} is not within 0..2^63-1")
    return seed


def _weights(text: str) -> tuple[float, ...]:
    weights = tuple(float(part) for part in text.split(","))
    if not all(math.isfinite(w) and w >= 0 for w in weights) or not any(weights):
        raise argparse.ArgumentTypeError(f"{text} should be numbers from 0 on, one of them above 0")
    return weights


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hrm-submit", description="Solve ARC tasks with a Hierarchical Reasoning Model, inside a time limit.")
    parser.add_argument("--version", action="version", version=f"hrm-submit {__version__}")
    kinds = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    solve = kinds.add_parser("solve", help="solve a challenges file into a submission file")
    solve.add_argument("--challenges", type=Path, required=True, metavar="F")
    solve.add_argument("--output", type=Path, required=True, metavar="F", help="the submission file")
    solve.add_argument(
        "--checkpoint",
        metavar="F|none",
        help="weights to start from: a file, a folder of parts, or none (default: the package's own, where the preset suits them)",
    )
    limit = solve.add_mutually_exclusive_group(required=True)
    limit.add_argument("--time-budget", metavar="11h30m", help="end within this time, whatever happens")
    limit.add_argument("--segments-per-task", type=int, metavar="N", help="fixed work: same seed, same file")
    solve.add_argument("--run-dir", type=Path, metavar="D", help="run folder, from which a killed run resumes (default: OUTPUT with .run)")
    solve.add_argument("--preset", default="", metavar="NAME[,NAME]", help="layered left to right (default: the checkpoint's, else nano)")
    solve.add_argument("--devices", default="auto", metavar="auto|cpu|cuda:0,...")
    solve.add_argument(
        "--cluster",
        default="",
        metavar="ADDRESS|auto|local",
        help="work on all machines of a Ray cluster instead (extra: hrm-submit[cluster])",
    )
    solve.add_argument("--cores-per-worker", type=int, default=1, metavar="N", help="CPU cores of each worker of a cluster (default: 1)")
    solve.add_argument("--tasks", metavar="ID,ID", help="solve only these; all others get fallback answers")
    solve.add_argument("--seed", type=_seed, default=0, metavar="N")
    solve.set_defaults(run=commands.solve)

    score = kinds.add_parser("score", help="score a submission file: prints one JSON object")
    score.add_argument("--submission", type=Path, required=True, metavar="F")
    score.add_argument(
        "--solutions", type=Path, required=True, metavar="NAME|F", help="a solutions file, or tasks that carry their answers"
    )
    score.set_defaults(run=commands.score)

    validate = kinds.add_parser("validate", help="check a submission file: prints one line for each fault")
    validate.add_argument("--submission", type=Path, required=True, metavar="F")
    validate.add_argument("--challenges", type=Path, required=True, metavar="F")
    validate.set_defaults(run=commands.validate)

    train = kinds.add_parser("pretrain", help="train on ARC tasks; leaves a checkpoint to solve with")
    train.add_argument("--preset", required=True, metavar="NAME[,NAME]")
    train.add_argument("--data", required=True, metavar="NAME|F[:demos][:weight],...", help="what to train on")
    total = train.add_mutually_exclusive_group(required=True)
    total.add_argument("--time-budget", metavar="20m", help="total, earlier runs included")
    total.add_argument("--segments", type=int, metavar="N", help="total, earlier runs included")
    train.add_argument("--out", type=Path, required=True, metavar="D", help="state, metrics and checkpoints")
    train.add_argument("--resume", action="store_true", help="resume from the state in D")
    train.add_argument("--from", dest="start_from", type=Path, metavar="F", help="weights to start from, with fresh optimizers")
    train.add_argument("--export-parts", metavar="15MiB", help="write checkpoints as folders of parts of at most this size")
    train.add_argument("--validate", metavar="NAME|F", help="measure pass@2 by votes on this set; it is never trained on")
    train.add_argument(
        "--protect",
        default="arc-agi-1-evaluation,arc-agi-2-evaluation",
        metavar="NAME|F,...",
        help="what the weights will be scored on: tasks that share a pair with these sets are left out (default: both evaluation sets)",
    )
    train.add_argument("--every", default="10m", metavar="10m", help="how often to validate (default: 10m)")
    train.add_argument("--save-every", default="2m", metavar="2m", help="how often to save the state (default: 2m)")
    train.add_argument("--log-every", type=int, default=20, metavar="N", help="segments for each line of metrics.jsonl (default: 20)")
    train.add_argument("--devices", default="auto", metavar="auto|cpu|cuda:0")
    train.add_argument("--threads", type=int, metavar="N", help="CPU threads of each process (default: all cores, shared by the ranks)")
    train.add_argument("--strict", action="store_true", help="refuse data with any fault instead of skipping what is wrong")
    train.add_argument("--seed", type=_seed, default=0, metavar="N")
    train.set_defaults(run=commands.pretrain)

    convert = kinds.add_parser("import-checkpoint", help="convert a published HRM checkpoint")
    convert.add_argument("--weights", type=Path, required=True, metavar="F.pt")
    convert.add_argument("--config", type=Path, required=True, metavar="F", help="its YAML or JSON configuration")
    convert.add_argument("--output", type=Path, required=True, metavar="F.safetensors")
    convert.add_argument("--keep-rows", action="store_true", help="keep the embedding row of every augmented task (gigabytes)")
    convert.set_defaults(run=commands.import_checkpoint)

    conversion = kinds.add_parser("convert", help="convert tasks of any form into Kaggle's challenges and solutions files")
    conversion.add_argument("source", metavar="NAME|F", help="a data set, a folder of tasks at any depth, a file of tasks or of one task")
    conversion.add_argument("--output", type=Path, required=True, metavar="DIR")
    conversion.set_defaults(run=commands.convert)

    merger = kinds.add_parser("merge", help="merge the submissions of several solvers")
    merger.add_argument("sources", type=Path, nargs="+", metavar="F|D", help="submission files, or run folders, whose votes are pooled")
    merger.add_argument("--output", type=Path, required=True, metavar="F", help="the submission file")
    merger.add_argument("--challenges", type=Path, metavar="NAME|F", help="the tasks to answer (default: those of the first run folder)")
    merger.add_argument("--weights", type=_weights, metavar="W,W", help="weight of each source (default: equal)")
    merger.add_argument("--solutions", type=Path, metavar="NAME|F", help="also print the score of each source and of the merged file")
    merger.set_defaults(run=commands.merge)

    report = kinds.add_parser("report", help="look at a run: one HTML file that opens anywhere")
    report.add_argument("--run-dir", type=Path, required=True, metavar="D", help="the run folder of a finished or a killed run")
    report.add_argument("--output", type=Path, required=True, metavar="F.html")
    report.add_argument("--solutions", type=Path, metavar="F", help="the solutions, to show scores and wrong cells")
    report.add_argument("--challenges", type=Path, metavar="F", help="the challenges file, if it has moved since the run")
    report.add_argument("--compare", type=Path, metavar="D2", help="another run folder, to show what this run gains and loses")
    report.add_argument("--json", type=Path, metavar="F", help="write all tables as JSON too")
    report.add_argument("--csv", type=Path, metavar="DIR", help="write each table as a CSV file too")
    report.set_defaults(run=commands.report)

    shown = kinds.add_parser("show", help="a task or a run as coloured blocks")
    what = shown.add_mutually_exclusive_group(required=True)
    what.add_argument("--dataset", metavar="NAME|F", help="a data set or a challenges file; --task names the task")
    what.add_argument("--run-dir", type=Path, metavar="D", help="a run folder: its tasks, and the attempts at those of --task, or at some")
    shown.add_argument("--task", default="", metavar="ID[,ID]")
    shown.add_argument(
        "--solutions", nargs="?", const="", metavar="F", help="show the solutions too (default: the file beside the challenges)"
    )
    shown.add_argument("--html", type=Path, metavar="F", help="write the pictures into an HTML file instead")
    shown.set_defaults(run=commands.show)

    watch = kinds.add_parser("watch", help="follow a run of solve or pretrain from another terminal")
    watch.add_argument("--run-dir", type=Path, required=True, metavar="D", help="the run folder; it need not exist yet")
    watch.add_argument("--once", action="store_true", help="print the state once and exit")
    watch.add_argument("--every", default="2s", metavar="2s", help="how often to look (default: 2s)")
    watch.set_defaults(run=commands.watch)
    return parser
