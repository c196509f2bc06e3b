"""What each command does with its parsed options; returns the exit status. Heavy modules are imported where they are used."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from hrm_submit.core.clock import Clock, parse_duration
from hrm_submit.core.errors import ConfigError


def solve(args: argparse.Namespace, clock: Clock) -> int:
    from hrm_submit.run.solve import SolveRequest
    from hrm_submit.run.solve import solve as solve_file

    if args.segments_per_task is not None and args.segments_per_task < 1:
        raise ConfigError(f"--segments-per-task must be at least 1, not {args.segments_per_task}")
    if not args.output.name:
        raise ConfigError(f"--output {args.output} names no file")
    if args.cores_per_worker < 1:
        raise ConfigError(f"--cores-per-worker must be at least 1, not {args.cores_per_worker}")
    if args.cluster and args.devices != "auto":
        raise ConfigError("--cluster takes the devices of the cluster: leave --devices out")
    wanted = None if args.tasks is None else tuple(filter(None, (t.strip() for t in args.tasks.split(","))))
    if wanted == ():
        raise ConfigError("--tasks names no task")
    clock.budget = None if args.time_budget is None else parse_duration(args.time_budget)
    request = SolveRequest(
        challenges=args.challenges,
        output=args.output,
        run_dir=args.run_dir or args.output.with_name(args.output.name + ".run"),
        checkpoint=None if args.checkpoint in (None, "none") else Path(args.checkpoint),
        from_the_box=args.checkpoint is None,
        presets=args.preset,
        budget=clock.budget,
        segments=args.segments_per_task,
        devices=args.devices,
        cluster=args.cluster,
        cores_per_worker=args.cores_per_worker,
        tasks=wanted,
        seed=args.seed,
    )
    summary = solve_file(request, clock)
    for line in summary.lines():
        print(line)
    # Not one answer from the model: a caller may know of other weights or devices to try.
    return 0 if summary.answered or not summary.solvable else 1


def score(args: argparse.Namespace, clock: Clock) -> int:
    from hrm_submit.arc.submission import read_submission
    from hrm_submit.corpora.scoring import score as score_answers
    from hrm_submit.corpora.sources import answers_of
    from hrm_submit.record.folder import run_of, training_warning

    answers, malformed = read_submission(args.submission)
    print(json.dumps(score_answers(answers, answers_of(args.solutions), len(malformed)), indent=1))
    if malformed:
        print(f"hrm-submit: {len(malformed)} malformed attempts count as wrong, the first is {malformed[0]}", file=sys.stderr)
    if told := training_warning(run_of(args.submission)):
        print(f"hrm-submit: {told}", file=sys.stderr)
    return 0


def validate(args: argparse.Namespace, clock: Clock) -> int:
    from hrm_submit.arc.challenges import read_challenges
    from hrm_submit.arc.submission import file_faults

    tasks, broken = read_challenges(args.challenges)
    expected = {i: len(t.test) for i, t in tasks.items()} | {i: b.n_outputs for i, b in broken.items()}
    faults = file_faults(args.submission, expected)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def pretrain(args: argparse.Namespace, clock: Clock) -> int:
    from hrm_submit.train.prepare import parse_size, pretrain_as_asked
    from hrm_submit.train.request import PretrainOptions

    options = PretrainOptions(
        presets=args.preset,
        data=args.data,
        out=args.out,
        budget=None if args.time_budget is None else parse_duration(args.time_budget),
        segments=args.segments,
        resume=args.resume,
        start_from=args.start_from,
        export_parts=parse_size(args.export_parts) if args.export_parts else None,
        validate=args.validate,
        every=parse_duration(args.every),
        devices=args.devices,
        threads=args.threads,
        save_every=parse_duration(args.save_every),
        log_every=args.log_every,
        seed=args.seed,
        command=args.command_line,
        strict=args.strict,
        protect=tuple(filter(None, (name.strip() for name in args.protect.split(",")))),
    )
    ended = pretrain_as_asked(options, clock)
    if ended:
        print(ended)
    return 0


def import_checkpoint(args: argparse.Namespace, clock: Clock) -> int:
    from hrm_submit.model.published import import_published

    imported = import_published(args.weights, args.config, args.output, keep_rows=args.keep_rows)
    parameters = sum(t.numel() for t in imported.state.values())
    print(f"{args.output}: {parameters:,} parameters")
    return 0


def report(args: argparse.Namespace, clock: Clock) -> int:
    from hrm_submit.report.build import ReportRequest, write_report

    summary = write_report(
        ReportRequest(
            run_dir=args.run_dir,
            output=args.output,
            solutions=args.solutions,
            challenges=args.challenges,
            compare=args.compare,
            json=args.json,
            csv=args.csv,
        )
    )
    print(summary.line())
    for note in summary.notes:
        print(f"hrm-submit: {note}", file=sys.stderr)
    return 0


def show(args: argparse.Namespace, clock: Clock) -> int:
    from hrm_submit.core.files import write_atomic
    from hrm_submit.report.screen.pick import picture_of

    picture = picture_of(args.dataset, args.run_dir, tuple(filter(None, args.task.split(","))), args.solutions)
    if args.html is None:
        print(picture)
        return 0
    try:
        write_atomic(args.html, picture._repr_html_().encode("utf-8", "replace"))
    except OSError as error:
        raise ConfigError(f"{args.html}: cannot be written: {error.strerror or error}") from None
    return 0


def watch(args: argparse.Namespace, clock: Clock) -> int:
    from hrm_submit.report.screen.watch import Painter, follow, look_once

    every = parse_duration(args.every)
    painter = Painter(shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    if args.once:
        print(painter.paint(look_once(args.run_dir)), end="")
    else:
        follow(args.run_dir, every, lambda lines: print(painter.paint(lines), end="", flush=True))
    return 0


def convert(args: argparse.Namespace, clock: Clock) -> int:
    """`convert`: any source as Kaggle's pair of files."""
    from hrm_submit.arc.challenges import write_challenges
    from hrm_submit.corpora.solutions import write_solutions
    from hrm_submit.corpora.sources import load_source

    name, tasks, solutions = load_source(args.source)
    tasks = {task_id: task for task_id, task in tasks.items() if task.test}
    if not tasks:
        raise ConfigError(f"{args.source}: has only pairs to learn from, no test inputs: there is nothing to solve")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{args.output}: cannot be made: {error.strerror or error}") from None
    write_challenges(args.output / f"{name}_challenges.json", tasks)
    print(f"{args.output / f'{name}_challenges.json'}: {len(tasks)} tasks")
    known = {task_id: outputs for task_id, outputs in solutions.items() if task_id in tasks}
    if known:
        write_solutions(args.output / f"{name}_solutions.json", known)
        print(f"{args.output / f'{name}_solutions.json'}: {len(known)} tasks")
    return 0


def merge(args: argparse.Namespace, clock: Clock) -> int:
    """`merge`: answers of several solvers as one submission."""
    from hrm_submit.report.merge import MergeRequest
    from hrm_submit.report.merge import merge as merge_answers

    for line in merge_answers(MergeRequest(tuple(args.sources), args.output, args.weights, args.challenges, args.solutions)):
        print(line)
    return 0
