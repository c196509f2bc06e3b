"""A rehearsal from the choice of tasks to the table of results: what the notebook is given, how it ended, and what that scores."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

from hrm_submit.arc.canonical import tasks_with_pairs_of
from hrm_submit.arc.choice import chosen
from hrm_submit.arc.options import ChoiceOptions
from hrm_submit.arc.submission import file_faults, read_submission
from hrm_submit.arc.task import Solutions, Task
from hrm_submit.core.clock import format_duration, parse_duration
from hrm_submit.core.errors import DataError, UserError
from hrm_submit.corpora.scoring import score
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.corpora.sources import load
from hrm_submit.model.checkpoint_header import read_header
from hrm_submit.model.packaged import CHECKPOINTS, DEFAULT_PRESET
from hrm_submit.record.events import TaskFinal
from hrm_submit.record.folder import read_run, run_of, training_warning
from hrm_submit.report.build import write_report
from hrm_submit.report.options import ReportOptions

from .competition import Competition, entered, load_competition
from .dataset import own_weights, place_training_data
from .machine import KaggleTree, build_tree, notebook_variables, preinstalled, run_notebook
from .paths import NOTEBOOKS, OFFLINE_WHEELS, ROOT, RUNS
from .processes import isolation
from .wheels import build_wheel

EXPORTS = ("final", "undecayed")
PRETRAIN_PRESET = "gpu-small"
"""What the pre-training notebook trains."""
FEW_EXAMPLES = "# What a rehearsal lays over the preset, as its machine has no GPU.\n[train]\nbatch_size = 2\n"
DEFAULT_DATASET, DEFAULT_TASKS, DEFAULT_SIDE = "arc-agi-1-evaluation", "12", 12


def choose_tasks(dataset: str | None, tasks: str | None, max_side: int | None) -> tuple[dict[str, Task], Solutions]:
    """The tasks to simulate with, by id, and their solutions (none for a challenges file that has no sibling). Raises DataError, or
    ConfigError for none."""
    name = dataset or DEFAULT_DATASET
    known, solutions = load(name, solutions=True)
    wanted = tasks or (DEFAULT_TASKS if dataset is None else str(len(known)))
    side = max_side or (DEFAULT_SIDE if dataset is None and tasks is None else 30)
    counted = wanted.isdecimal() and wanted not in known
    choice = ChoiceOptions(max_side=side, first=int(wanted)) if counted else ChoiceOptions(tasks=wanted)
    ids = chosen(choice, dict(sorted(known.items())), name, lambda _: ())
    return {task: known[task] for task in ids}, {task: solutions[task] for task in ids if task in solutions}


def shipped_files(options: argparse.Namespace, competition: Competition, tasks: Mapping[str, Task]) -> list[Path]:
    """Files of our dataset: the wheel, built when it is not current, and for pre-training its data, else the weights.

    The weights are those that `--checkpoint` names, else one's own that `make wheels` has put there, else the competition's or what
    stands in for them. Raises UserError.
    """
    wheel = build_wheel(OFFLINE_WHEELS)
    if options.notebook == "pretrain":
        return [wheel, *place_training_data(OFFLINE_WHEELS)]
    if options.checkpoint == "none":
        return [wheel]
    if options.checkpoint is not None:
        weights = Path(options.checkpoint)
    else:
        weights = own_weights(OFFLINE_WHEELS) or weights_for(ROOT / competition.checkpoint, tasks)
    if not weights.is_file():
        raise DataError(f"{weights}: no checkpoint there")
    return [wheel, weights]


def weights_for(weights: Path, tasks: Mapping[str, Task]) -> Path:
    """The package's default weights in place of `weights` that were trained on some of `tasks`, unless the default ones were, too.

    Raises CheckpointError.
    """
    stands_in = CHECKPOINTS / f"{DEFAULT_PRESET}.safetensors"
    known = tasks_with_pairs_of(read_header(weights)[1].hashes, tasks)
    if not known or tasks_with_pairs_of(read_header(stands_in)[1].hashes, tasks):
        return weights
    print(f"weights: {stands_in.name}, as {weights.name} was trained on {len(known)} of these {len(tasks)} tasks")
    return stands_in


def submission_results(tree: KaggleTree, tasks: Mapping[str, Task], solutions: Solutions) -> tuple[dict[str, str], bool]:
    """Validity and scores of the submission, and whether it is valid."""
    submission, run = tree.working / "submission.json", tree.working / "run"
    faults = file_faults(submission, tasks)
    rows = {"submission": "valid" if not faults else f"{len(faults)} faults, first: {faults[0]}"}
    if solutions and not faults:
        result = score(read_submission(submission)[0], solutions)
        counts = result["counts"]
        rows |= {name: f"{result[name]:.1%}" for name in ("pass@1", "pass@2", "task_pass@2", "mean_task_pass@2", "cell_accuracy")}
        rows["pass@2"] += f"  ({counts['solved_outputs@2']} of {counts['outputs']} test outputs)"
        rows["task_pass@2"] += f"  ({counts['solved_tasks']} of {counts['tasks']} tasks)"
        if warning := training_warning(run_of(submission)):
            rows["warning"] = warning
    if not solutions:
        rows["score"] = "not known: no solutions are at hand"
    answered = {event.task for event in read_run(run).events if isinstance(event, TaskFinal)} if run.is_dir() else ()
    return rows | {"tasks answered": f"{len(answered)} of {len(tasks)}, the rest by fallback"}, not faults


def write_scored_report(folder: Path, tree: KaggleTree) -> str:
    """Write `folder/report.html` of the run, with the solutions where they are known; returns its path, or why there is none."""
    output, solutions = folder / "report.html", folder / "solutions.json"
    try:
        write_report(ReportOptions(run_dir=tree.working / "run", output=output, solutions=solutions if solutions.is_file() else None))
    except UserError as error:
        return f"none: {error}"
    return str(output)


def export_results(out: Path) -> tuple[dict[str, str], bool]:
    """For each checkpoint that `pretrain` should leave in `out` what it is, or what is wrong; and whether both make a model."""
    from hrm_submit.model.weights import build, load_checkpoint  # torch, which bad options should not wait for

    rows, good = {}, True
    for name in EXPORTS:
        try:
            checkpoint = load_checkpoint(out / f"{name}.safetensors")
            model, _ = build(checkpoint)
        except UserError as error:
            rows[name], good = str(error), False
            continue
        size = sum(parameter.numel() for parameter in model.parameters())
        rows[name] = f"{size:,} parameters, {checkpoint.meta.steps} segments, {format_duration(checkpoint.meta.seconds)}"
    return rows, good


def simulate(options: argparse.Namespace) -> int:
    """Run the notebook on the simulated machine and print the table of results; returns 1 where they are bad. Raises UserError, OSError."""
    pretraining = options.notebook == "pretrain"
    limit = parse_duration(options.time_limit or ("2m" if pretraining else "3m"))
    notebook = NOTEBOOKS / f"{options.notebook}.ipynb"
    if not notebook.is_file():
        raise DataError(f"{notebook}: no such notebook")
    tasks, solutions = choose_tasks(options.dataset, options.tasks, options.max_side)
    folder = (options.output_dir or RUNS / f"{'pretrain' if pretraining else options.mode}-{time.strftime('%Y%m%d-%H%M%S')}").resolve()
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty")
    print("preparing the simulated machine", flush=True)
    competition = load_competition(options.competition) if options.competition else entered()
    packages, shipped = preinstalled(), shipped_files(options, competition, tasks)
    tree = build_tree(folder / "kaggle", competition, tasks, shipped, options.layout)
    does = notebook.name if pretraining else f"{notebook.name}, {options.mode}, {len(tasks)} tasks"
    print(f"{does}, {format_duration(limit)}; outputs: {folder}")
    cut = "cut off (a network namespace of its own)" if isolation() else "NOT CUT: this system allows no network namespace"
    print(f"network: {cut}", flush=True)
    preset = options.preset
    if pretraining and not preset:
        (folder / "few-examples.toml").write_text(FEW_EXAMPLES, encoding="utf-8")
        preset = f"{PRETRAIN_PRESET},{folder / 'few-examples.toml'}"
    variables = notebook_variables(tree, options.mode, limit, options.seed, preset)
    outcome = run_notebook(notebook, folder, packages, variables, limit, cwd=tree.working)
    if pretraining:
        results, good = export_results(tree.working / "pretrain")
    else:
        results, good = submission_results(tree, tasks, solutions)
        if solutions:
            write_solutions(folder / "solutions.json", solutions)
        if (tree.working / "run").is_dir():
            results["report"] = write_scored_report(folder, tree)
    endings = {0: "ended well", None: "TIME-OUT: killed at the limit, Kaggle would keep nothing"}
    ending = endings.get(outcome.status, f"FAILED, exit status {outcome.status}")
    print()
    for name, value in {"notebook": ending, **results, "seconds used": f"{outcome.seconds:.0f} of {limit:.0f}"}.items():
        print(f"{name:<17} {value}")
    return 0 if good and outcome.status == 0 else 1
