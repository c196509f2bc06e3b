"""Which picture the options of `show` ask for: a task of a data set or of a file, or a run."""

from __future__ import annotations

from pathlib import Path

from hrm_submit.arc.task import Solutions
from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.corpora.solutions import sibling_solutions
from hrm_submit.corpora.sources import answers_of, load_source
from hrm_submit.report.options import ShowOptions
from hrm_submit.report.run.load import load_run
from hrm_submit.report.screen.picture import Picture
from hrm_submit.report.screen.show import show


def picture_of(options: ShowOptions) -> Picture:
    """The picture of a task of `options.dataset`, or of the tasks of a run. Raises UserError."""
    if options.run_dir is not None:
        run = load_run(options.run_dir)
        given = run.run.get("challenges")
        return show(run, solutions=_solutions(given if isinstance(given, str) else None, options.solutions), ids=options.task or None)
    if len(options.task) != 1:
        raise ConfigError(f"--dataset needs one task: --task ID{'' if not options.task else f', not {len(options.task)} of them'}")
    name, (task,) = str(options.dataset), options.task
    _, tasks, answers = load_source(name, solved=options.solutions == "")
    if task not in tasks:
        raise DataError(f"{name}: has no task {task}")
    known = answers if options.solutions == "" else {}
    return show(tasks[task], solutions=known or _solutions(name, options.solutions))


def _solutions(challenges: str | None, asked: str | None) -> Solutions | None:
    if asked is None:
        return None
    path = Path(asked) if asked else sibling_solutions(challenges) if challenges else None
    if path is None:
        raise DataError(f"{challenges}: no solutions file lies beside it; --solutions F names one")
    return answers_of(path)
