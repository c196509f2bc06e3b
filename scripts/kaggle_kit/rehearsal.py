"""A rehearsal from the choice of tasks to the table of results: what the notebook is given, how it ended, and what that scores."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from hrm_submit.arc.canonical import tasks_with_pairs_of
from hrm_submit.arc.submission import file_faults, load_submission
from hrm_submit.arc.task import Solutions, Task
from hrm_submit.core.clock import format_duration, parse_duration
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.scoring import score
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.corpora.sources import load
from hrm_submit.record.events import TaskFinal
from hrm_submit.record.folder import event_reader, read_run, run_of, training_warning
from kaggle_kit.competition import Competition, load_competition
from kaggle_kit.environment import base_environment
from kaggle_kit.machine import notebook_variables, run_notebook
from kaggle_kit.places import NOTEBOOKS, OFFLINE_WHEELS, ROOT, RUNS, own_weights
from kaggle_kit.sandbox import Outcome, isolation
from kaggle_kit.training import describe_exports, place_previous, place_training_data
from kaggle_kit.tree import KaggleTree, build_tree
from kaggle_kit.wheels import build_wheel

PRETRAIN_PRESET = "gpu-small"
"""What the pre-training notebook trains."""
FEW_EXAMPLES = "# What a rehearsal lays over the preset, as its machine has no GPU.\n[train]\nbatch_size = 2\n"
DEFAULT_DATASET, DEFAULT_TASKS, DEFAULT_SIDE = "arc-agi-1-evaluation", "12", 12


def choose_tasks(dataset: str | None, tasks: str | None, max_side: int | None) -> tuple[dict[str, Task], Solutions]:
    """The tasks to simulate with, and their solutions (none for a challenges file that has no sibling). Raises DataError."""
    name = dataset or DEFAULT_DATASET
    known, solutions = load(name, solutions=True)
    wanted = tasks or (DEFAULT_TASKS if dataset is None else str(len(known)))
    side = max_side or (DEFAULT_SIDE if dataset is None and tasks is None else 30)
    if wanted.isdecimal() and wanted not in known:
        ids = sorted(name for name, task in known.items() if task.largest_side <= side)[: int(wanted)]
    else:
        ids = [name.strip() for name in wanted.split(",")]
    unknown = [task for task in ids if task not in known]
    if unknown or not ids:
        raise DataError(f"{name}: no task {unknown[0]!r}" if unknown else f"{name}: no tasks are left to simulate with")
    return {task: known[task] for task in ids}, {task: solutions[task] for task in ids if task in solutions}


def shipped_files(checkpoint: str | None, competition: Competition, tasks: Mapping[str, Task]) -> list[Path]:
    """Files of our dataset: the wheel, built when it is not current, and the weights: those that are named, else one's own that
    `make wheels` has put there, else the competition's or what stands in for them. Raises UserError."""
    wheel = build_wheel(OFFLINE_WHEELS)
    if checkpoint is not None:
        source = Path(checkpoint)
    else:
        source = OFFLINE_WHEELS if own_weights(OFFLINE_WHEELS) else weights_for(ROOT / competition.checkpoint, tasks)
    weights = [] if checkpoint == "none" else [source] if source.is_file() else sorted(source.glob("*.safetensors"))
    if checkpoint != "none" and not weights:
        raise DataError(f"{source}: no checkpoint there")
    return [wheel, *weights]


def weights_for(weights: Path, tasks: Mapping[str, Task]) -> Path:
    """`weights`; where they were trained on some of `tasks`, so that a score would say nothing, the package's default ones, which is said,
    unless these know some, too. Raises CheckpointError."""
    from hrm_submit.model.checkpoint_header import read_header
    from hrm_submit.model.packaged import CHECKPOINTS, DEFAULT_PRESET

    stands_in = CHECKPOINTS / f"{DEFAULT_PRESET}.safetensors"
    known = tasks_with_pairs_of(read_header(weights)[1].hashes, tasks)
    if not known or tasks_with_pairs_of(read_header(stands_in)[1].hashes, tasks):
        return weights
    print(f"weights: {stands_in.name}, as {weights.name} was trained on {len(known)} of these {len(tasks)} tasks")
    return stands_in


@dataclass
class Progress:
    """A bar of answered tasks, fed from the run folder that solve writes while it works."""

    run: Path
    total: int
    limit: float

    def __post_init__(self) -> None:
        self._events, self._answered = event_reader(self.run), set[str | None]()
        self.bar = tqdm(total=self.total, unit="task", disable=None, bar_format="{desc} |{bar}| {n}/{total} tasks answered")

    def tick(self, seconds: float) -> None:
        self._answered |= {event.task for event in self._events.read() if isinstance(event, TaskFinal)}
        self.bar.n = len(self._answered)
        self.bar.set_description_str(f"{format_duration(seconds)} of {format_duration(self.limit)}")


def answered_tasks(run: Path) -> int:
    """Tasks to which solve gave a final answer of its own."""
    return len({event.task for event in read_run(run).events if isinstance(event, TaskFinal)}) if run.is_dir() else 0


def ending(outcome: Outcome) -> str:
    """How the notebook ended, for a person."""
    return {0: "ended well", None: "TIME-OUT: killed at the limit, Kaggle would keep nothing"}.get(
        outcome.status, f"FAILED, exit status {outcome.status}"
    )


def cost(outcome: Outcome, limit: float) -> dict[str, str]:
    return {"seconds used": f"{outcome.seconds:.0f} of {limit:.0f}", "peak memory": f"{outcome.peak_memory / 2**30:.2f} GiB"}


def result_table(
    tree: KaggleTree, tasks: Mapping[str, Task], solutions: Solutions, outcome: Outcome, limit: float
) -> tuple[dict[str, str], bool]:
    """What to show of a run, and whether it counts: the notebook ended well, in time, with a valid submission."""
    submission = tree.working / "submission.json"
    faults = file_faults(submission, tasks)
    rows = {"notebook": ending(outcome), "submission": "valid" if not faults else f"{len(faults)} faults, first: {faults[0]}"}
    if solutions and not faults:
        result = score(load_submission(submission), solutions)
        counts = result["counts"]
        rows |= {name: f"{result[name]:.1%}" for name in ("pass@1", "pass@2", "task_pass@2", "mean_task_pass@2", "cell_accuracy")}
        rows["pass@2"] += f"  ({counts['solved_outputs@2']} of {counts['outputs']} test outputs)"
        rows["task_pass@2"] += f"  ({counts['solved_tasks']} of {counts['tasks']} tasks)"
        if told := training_warning(run_of(submission)):
            rows["warning"] = told
    rows["tasks answered"] = f"{answered_tasks(tree.working / 'run')} of {len(tasks)}, the rest by fallback"
    rows |= cost(outcome, limit)
    return rows, outcome.status == 0 and not faults


def prepare(options: argparse.Namespace, folder: Path, tasks: Mapping[str, Task]) -> KaggleTree:
    """The inputs of the notebook, below `folder`: for pre-training with data in place of weights. Raises UserError."""
    competition = load_competition(options.competition)
    if options.notebook == "pretrain":
        shipped = shipped_files("none", competition, tasks) + place_training_data(OFFLINE_WHEELS)
    else:
        shipped = shipped_files(options.checkpoint, competition, tasks)
    tree = build_tree(folder / "kaggle", competition, tasks, shipped, options.layout)
    if options.previous:
        place_previous(options.previous, tree.input, options.layout)
    return tree


def _few_examples(folder: Path) -> Path:
    """A preset with small batches, by which a rehearsal trains more than a segment or two."""
    path = folder / "few-examples.toml"
    path.write_text(FEW_EXAMPLES, encoding="utf-8")
    return path


def simulate(options: argparse.Namespace) -> int:
    pretraining = options.notebook == "pretrain"
    limit = parse_duration(options.time_limit or ("2m" if pretraining else "3m"))
    notebook = NOTEBOOKS / f"{options.notebook}.ipynb"
    if not notebook.is_file():
        raise DataError(f"{notebook}: no such notebook")
    if options.previous and not pretraining:
        raise DataError("--previous: only --notebook pretrain continues an earlier run")
    tasks, solutions = choose_tasks(options.dataset, options.tasks, options.max_side)
    folder = (options.output_dir or RUNS / f"{'pretrain' if pretraining else options.mode}-{time.strftime('%Y%m%d-%H%M%S')}").resolve()
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty")
    print("preparing the simulated machine", flush=True)
    base_environment()
    tree = prepare(options, folder, tasks)
    does = notebook.name if pretraining else f"{notebook.name}, {options.mode}, {len(tasks)} tasks"
    print(f"{does}, {format_duration(limit)}; outputs: {folder}")
    print(
        "network: " + ("cut off (a network namespace of its own)" if isolation() else "NOT CUT: this system allows no network namespace"),
        flush=True,
    )
    preset = options.preset or (f"{PRETRAIN_PRESET},{_few_examples(folder)}" if pretraining else None)
    variables = notebook_variables(tree, options.mode, limit, options.seed, preset)
    if pretraining:
        outcome = run_notebook(notebook, folder, variables, limit, cwd=tree.working)
        exports, complete = describe_exports(tree.working / "pretrain")
        rows, good = {"notebook": ending(outcome)} | exports | cost(outcome, limit), complete and outcome.status == 0
    else:
        if solutions:
            write_solutions(folder / "solutions.json", solutions)
        progress = Progress(tree.working / "run", len(tasks), limit)
        try:
            outcome = run_notebook(notebook, folder, variables, limit, cwd=tree.working, on_tick=progress.tick)
        finally:
            progress.bar.close()
        rows, good = result_table(tree, tasks, solutions, outcome, limit)
    print()
    for name, value in rows.items():
        print(f"{name:<17} {value}")
    return 0 if good else 1
