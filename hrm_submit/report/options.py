"""The options of `report`, `show`, `runs`, `watch` and `merge`."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from hrm_submit.arc.options import ChoiceOptions
from hrm_submit.core.clock import parse_duration
from hrm_submit.core.options import option


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What `report` reads and writes."""

    run_dir: Path = option("D", "the run folder of a finished or a killed run")
    output: Path = option("F.html")
    solutions: Path | None = option("F", "the solutions, to show scores and wrong cells", default=None)
    challenges: Path | None = option("F", "the challenges file, if it has moved since the run", default=None)
    json: Path | None = option("F", "write all tables as JSON too", default=None)
    csv: Path | None = option("DIR", "write each table as a CSV file too", default=None)
    tensorboard: Path | None = option("DIR", "write the curves of each training too (needs the package tensorboard)", default=None)


@dataclass(frozen=True, kw_only=True)
class ShowOptions(ChoiceOptions):
    """What `show` shows: tasks of exactly one of `dataset` and `run_dir`. `solutions`: None for none, "" for those that lie beside."""

    dataset: str | None = option(
        "NAME|F", "a data set or a challenges file: the tasks of --tasks, else a contact sheet", one_of="source", default=None
    )
    run_dir: Path | None = option("D", "a run folder: its tasks, and the attempts at chosen ones", one_of="source", default=None)
    solutions: str | None = option("F", "show the solutions too (default: the file beside the challenges)", const="", default=None)
    html: Path | None = option("F", "write the pictures into an HTML file instead", default=None)


@dataclass(frozen=True, kw_only=True)
class RunsOptions:
    """What `runs` lists, or the two run folders that it compares."""

    folder: Path = option("FOLDER", "where to look, folders below included (default: here)", name="folder", nargs="?", default=Path())
    compare: tuple[Path, Path] | None = option(
        "D", "compare two run folders instead: settings that differ, tasks gained and lost", nargs=2, parse=Path, default=None
    )
    solutions: str | None = option("NAME|F", "the solutions (default: those of the challenges, or solutions.json nearby)", default=None)
    html: Path | None = option("F", "write a page whose tables can be sorted instead", default=None)


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """What `watch` follows; `every` is in seconds."""

    run_dir: Path = option("D", "the run folder; it need not exist yet")
    once: bool = option(help="print the state once and exit", default=False)
    every: float = option("2s", "how often to look (default: 2s)", parse=parse_duration, default=2.0)


def _weights(text: str) -> tuple[float, ...]:
    weights = tuple(float(part) for part in text.split(","))
    if not all(math.isfinite(w) and w >= 0 for w in weights) or not any(weights):
        raise argparse.ArgumentTypeError(f"{text} should be numbers from 0 on, one of them above 0")
    return weights


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """What `merge` reads and writes. `weights` has a number for each source."""

    sources: tuple[Path, ...] = option("F|D", "submission files, or run folders, whose votes are pooled", name="sources")
    output: Path = option("F", "the submission file")
    challenges: Path | None = option("NAME|F", "the tasks to answer (default: those of the first run folder)", default=None)
    weights: tuple[float, ...] | None = option("W,W", "weight of each source (default: equal)", parse=_weights, default=None)
