"""A scored run as a record that the documentation quotes: what it scored by side, with intervals, and what it was run by."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.core.files import write_atomic
from hrm_submit.model.packaged import packaged_checkpoint
from hrm_submit.report.run.load import RunData, fit_of, load_run
from hrm_submit.report.run.statistics import Scores, scores
from hrm_submit.report.run.tables import make_tables
from hrm_submit.report.run.timeline import read_timeline
from lab.docs.figures import packaged

BANDS = (("at most 12", 12), ("13 to 20", 20), ("above 20", 30))
"""Tasks by the largest side of their grids."""


def record(args: argparse.Namespace) -> int:
    """Write the record of a run. Raises UserError."""
    data = load_run(args.run_dir, args.challenges, args.solutions)
    if data.solutions is None:
        raise DataError(f"{args.solutions}: holds no solution of this run")
    write_atomic(args.output, json.dumps(record_of(data, args.what), indent=1) + "\n")
    return 0


def record_of(data: RunData, what: str) -> dict[str, Any]:
    """The record of a run whose solutions are known."""
    run = data.run
    tables = make_tables(data, read_timeline(data.turns))
    tasks = tables.tasks.set_index("task")
    values: dict[str, Any] = {"seconds": float(run.get("budget") or 0.0)}
    rows = []
    for name, least, most in [*((n, (0, *[m for _, m in BANDS])[k], m) for k, (n, m) in enumerate(BANDS)), ("all", 0, 30)]:
        chosen = tasks[(tasks["side"] > least) & (tasks["side"] <= most)]
        if chosen.empty:
            continue
        found = _scored(data, list(chosen.index))
        counts = found.score["counts"]
        fit = int((chosen["demo_exact"] >= fit_of(run)).sum())
        cells = {key: found.figures[key] for key in ("pass@1", "pass@2")}
        values[name] = {
            "tasks": len(chosen),
            "fit": fit,
            "outputs": counts["outputs"],
            "solved": round(found.score["pass@2"] * found.score["counts"]["outputs"]),
            "segments": float(chosen["segments"].median()),
            **{key: interval.value for key, interval in cells.items()},
            **{f"{key} low": interval.low for key, interval in cells.items()},
            **{f"{key} high": interval.high for key, interval in cells.items()},
        }
        rows.append(
            {"side": name, "tasks": str(len(chosen)), "fit": str(fit), "test outputs": str(counts["outputs"])}
            | {key: f"{100 * i.value:.1f} % [{100 * i.low:.1f}, {100 * i.high:.1f}]" for key, i in cells.items()}
        )
    about = {"what": what, "command": _command(run), "machine": str(run.get("machine") or "not recorded"), "date": date.today().isoformat()}
    versions = dict(run.get("versions", {}))
    return {"about": {**about, "versions": versions}, "weights": run.get("checkpoint_sha256"), "values": values, "table": rows}


def _scored(data: RunData, tasks: list[str]) -> Scores:
    assert data.solutions is not None
    known = {t: data.solutions[t] for t in tasks if t in data.solutions}
    return scores({t: data.answers[t] for t in known}, known)


def _command(run: Mapping[str, Any]) -> str:
    """The command that made the run, with file names instead of paths."""
    limit = ["--time-budget", f"{run['budget']:g}s"] if run.get("budget") else ["--segments-per-task", str(run.get("segments"))]
    preset = ["--preset", str(run["presets"])] if run.get("presets") else []
    challenges = ["--challenges", Path(str(run.get("challenges"))).name]
    words = ["solve", *challenges, *limit, *preset, *_weights(run), "--seed", str(run.get("seed"))]
    return " ".join(["python -m hrm_submit", *words])


def _weights(run: Mapping[str, Any]) -> list[str]:
    """The option that names the run's weights, where they are not those that its presets take by themselves."""
    if not run.get("checkpoint"):
        return []
    own = packaged().get(str(run.get("checkpoint_sha256")))
    try:
        default = packaged_checkpoint(str(run.get("presets") or ""))
        if own and default and own.name == default.name:
            return []
    except ConfigError:  # a preset of the user's own, whose file is not here
        pass
    return ["--checkpoint", f"hrm_submit/checkpoints/{own.name}" if own else Path(str(run["checkpoint"])).name]
