"""Which picture the options of `show` ask for: a task of a data set or of a file, or a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hrm_submit.arc.task import Solutions
from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.corpora.solutions import sibling_solutions
from hrm_submit.corpora.sources import answers_of, load_source
from hrm_submit.report.run.load import load_run
from hrm_submit.report.screen.picture import Picture
from hrm_submit.report.screen.show import show


def picture_of(dataset: str | None, run_dir: Path | None, ids: Sequence[str], solutions: str | None) -> Picture:
    """The one of `dataset` (a name or a challenges file) and `run_dir` that is not None, and of it the tasks `ids`.

    `solutions`: None for none, a file, or "" for the file beside the challenges or what the data set has. Raises UserError.
    """
    if run_dir is not None:
        run = load_run(run_dir)
        given = run.run.get("challenges")
        return show(run, solutions=_solutions(given if isinstance(given, str) else None, solutions), ids=ids or None)
    if len(ids) != 1:
        raise ConfigError(f"--dataset needs one task: --task ID{'' if not ids else f', not {len(ids)} of them'}")
    _, tasks, answers = load_source(str(dataset), solved=solutions == "")
    if ids[0] not in tasks:
        raise DataError(f"{dataset}: has no task {ids[0]}")
    known = answers if solutions == "" else {}
    return show(tasks[ids[0]], solutions=known or _solutions(str(dataset), solutions))


def _solutions(challenges: str | None, asked: str | None) -> Solutions | None:
    if asked is None:
        return None
    path = Path(asked) if asked else sibling_solutions(challenges) if challenges else None
    if path is None:
        raise DataError(f"{challenges}: no solutions file lies beside it; --solutions F names one")
    return answers_of(path)
