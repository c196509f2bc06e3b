"""What each command does with its options; returns the exit status. Heavy modules are imported where they are used."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hrm_submit.core.clock import Clock
from hrm_submit.core.errors import ConfigError
from hrm_submit.core.options import option
from hrm_submit.report.options import MergeOptions, ReportOptions, RunsOptions, ShowOptions, WatchOptions
from hrm_submit.run.options import SolveOptions
from hrm_submit.train.options import PretrainOptions

if TYPE_CHECKING:
    from hrm_submit.report.picture import Picture


def solve(options: SolveOptions, clock: Clock) -> int:
    from hrm_submit.run.start import started

    clock.budget = options.budget
    with started(options, clock) as watchdog:
        from hrm_submit.run.solve import solve as solve_file  # takes seconds on a busy machine

        try:
            summary = solve_file(options, clock, watchdog)
        except KeyboardInterrupt:
            if options.output.is_file():
                print(f"{options.output}: is valid and holds the answers so far; the same command resumes", file=sys.stderr)
            raise
        print(*summary.lines(), sep="\n", flush=True)
    # Not one answer from the model, tasks that were given up early, or not all in the file: a caller may know of other weights, devices or
    # places.
    return 0 if (summary.answered or not summary.solvable) and not summary.abandoned and not summary.unsaved else 1


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    submission: Path = option("F")
    solutions: Path = option("NAME|F", "a solutions file, or tasks that carry their answers")


def score(options: ScoreOptions, clock: Clock) -> int:
    from hrm_submit.arc.submission import read_submission
    from hrm_submit.corpora.scoring import score as score_answers
    from hrm_submit.corpora.sources import answers_of
    from hrm_submit.record.folder import run_of, training_warning

    answers, malformed = read_submission(options.submission)
    solutions = answers_of(options.solutions)
    print(json.dumps(score_answers(answers, solutions, len(malformed)), indent=1))
    chosen = run_of(options.submission).get("tasks")
    wanted = {task: solutions[task] for task in chosen if task in solutions} if isinstance(chosen, list) else {}
    if 0 < len(wanted) < len(solutions):
        alone = score_answers(answers, wanted)
        said = f"pass@2 {alone['pass@2']:.1%} of {alone['counts']['outputs']} test outputs"
        print(f"hrm-submit: the {len(wanted)} chosen tasks alone: {said}; the others were not chosen", file=sys.stderr)
    if malformed:
        print(f"hrm-submit: {len(malformed)} malformed attempts count as wrong, the first is {malformed[0]}", file=sys.stderr)
    if warning := training_warning(run_of(options.submission)):
        print(f"hrm-submit: {warning}", file=sys.stderr)
    return 0


@dataclass(frozen=True, kw_only=True)
class ValidateOptions:
    submission: Path = option("F")
    challenges: Path = option("F")


def validate(options: ValidateOptions, clock: Clock) -> int:
    from hrm_submit.arc.reader import read_challenges
    from hrm_submit.arc.submission import file_faults

    tasks, broken = read_challenges(options.challenges)
    expected = {task_id: len(task.test) for part in (tasks, broken) for task_id, task in part.items()}
    faults = file_faults(options.submission, expected)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def pretrain(options: PretrainOptions, clock: Clock) -> int:
    from hrm_submit.train.pretrain import pretrain as run_pretraining

    ended = run_pretraining(options, clock)
    if ended:
        print(ended)
    return 0


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    weights: Path = option("F.pt", "the file that torch wrote")
    config: Path = option("F", "its YAML or JSON configuration")
    output: Path = option("F.safetensors")


def import_checkpoint(options: ImportOptions, clock: Clock) -> int:
    from hrm_submit.model.published import import_published

    imported = import_published(options.weights, options.config, options.output)
    parameters = sum(t.numel() for t in imported.state.values())
    print(f"{options.output}: {parameters:,} parameters")
    return 0


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    source: str = option("NAME|F", "a data set, a folder of tasks at any depth, a file of tasks or of one task", name="source")
    output: Path = option("DIR")


def convert(options: ConvertOptions, clock: Clock) -> int:
    from hrm_submit.arc.reader import source_files, write_challenges
    from hrm_submit.core.files import refuse_overwriting
    from hrm_submit.corpora.solutions import sibling_solutions, write_solutions
    from hrm_submit.corpora.sources import load_source

    name, tasks, solutions = load_source(options.source)
    tasks = {task_id: task for task_id, task in tasks.items() if task.test}
    if not tasks:
        raise ConfigError(f"{options.source}: has only pairs to learn from, no test inputs: there is nothing to solve")
    known = {task_id: outputs for task_id, outputs in solutions.items() if task_id in tasks}
    challenges, answers = (options.output / f"{name}_{part}.json" for part in ("challenges", "solutions"))
    read = [path for file in source_files(options.source) for path in (file, sibling_solutions(file)) if path]
    for target in (challenges, *([answers] if known else [])):
        refuse_overwriting(target, read)
    with suppress(OSError):  # which the first file then tells
        options.output.mkdir(parents=True, exist_ok=True)
    write_challenges(challenges, tasks)
    print(f"{challenges}: {len(tasks)} tasks")
    if known:
        write_solutions(answers, known)
        print(f"{answers}: {len(known)} tasks")
    return 0


def merge(options: MergeOptions, clock: Clock) -> int:
    from hrm_submit.report.merge import merge as merge_answers

    print(merge_answers(options))
    return 0


def report(options: ReportOptions, clock: Clock) -> int:
    from hrm_submit.report.build import write_report

    line, notes = write_report(options)
    print(line)
    for note in notes:
        print(f"hrm-submit: {note}", file=sys.stderr)
    return 0


def show(options: ShowOptions, clock: Clock) -> int:
    from hrm_submit.report.show import picture_of

    return _put(picture_of(options), options.html)


def _put(picture: Picture, page: Path | None) -> int:
    """Print a picture or write it as a page."""
    from hrm_submit.core.files import write_output

    if page is None:
        print(picture)
    else:
        write_output(page, picture.document())
        print(f"{page}: {picture.title}")
    return 0


def runs(options: RunsOptions, clock: Clock) -> int:
    from hrm_submit.report.runs import compare_runs, list_runs

    if options.compare:
        return _put(compare_runs(*options.compare, options.solutions), options.html)
    return _put(list_runs(options.folder, options.solutions), options.html)


@dataclass(frozen=True, kw_only=True)
class PresetsOptions:
    """`presets` has no options."""


def presets(options: PresetsOptions, clock: Clock) -> int:
    from hrm_submit.model.packaged import describe_presets

    print("\n".join(describe_presets()))
    return 0


def watch(options: WatchOptions, clock: Clock) -> int:
    from hrm_submit.report.watch import follow

    clear = "\x1b[H\x1b[J" if sys.stdout.isatty() and not options.once else ""
    every = None if options.once else options.every
    follow(options.run_dir, every, lambda lines: print(clear + "\n".join(lines), flush=True))
    return 0
