"""What stands out in a run, in sentences: each a count from the tables, and what it hints at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from hrm_submit.core.clock import format_duration
from hrm_submit.report.run.tables import Tables
from hrm_submit.report.run.timeline import PHASES, Timeline
from hrm_submit.report.run.words import count, percent

UNFIT = 0.5


@dataclass(frozen=True)
class Usage:
    """Worker seconds: of all workers from each one's start to the end of its turn, and of that in each phase."""

    total: float
    phases: dict[str, float]

    @property
    def idle(self) -> float:
        """In no phase: a worker that waits, or is gone."""
        return max(0.0, self.total - sum(self.phases.values()))


def usage(timeline: Timeline) -> Usage:
    """Where the worker seconds went."""
    first: dict[tuple[int, int], float] = {}
    phases = dict.fromkeys(PHASES, 0.0)
    for s in timeline.stretches:
        first[s.turn, s.worker] = min(s.start, first.get((s.turn, s.worker), s.start))
        phases[s.phase] += s.end - s.start
    return Usage(sum(timeline.ends[turn] - start for (turn, _), start in first.items()), phases)


def findings(tables: Tables, timeline: Timeline, fit: float) -> list[str]:
    """Sentences for a person, the weightiest first; empty where nothing happened. `fit` is the run's `[ttt] fit`."""
    tasks = tables.tasks
    return [*_missed(tables), *_nearly(tasks), *_fit(tasks, fit), *_unanswered(tasks), *_time(tasks, timeline)]


def _missed(tables: Tables) -> list[str]:
    n = int((tables.outputs["rank"] > 2).sum())
    if not n:
        return []
    whose = "it was" if n == 1 else "they were"
    return [f"{count(n, 'test output')} had the right grid among the candidates, but below the first two: {whose} lost by the ranking."]


def _nearly(tasks: pd.DataFrame) -> list[str]:
    nearly = tasks[tasks["state"] == "nearly"]
    return [f"{count(len(nearly), 'task was', 'tasks were')} nearly solved: {_ids(nearly)}."] if len(nearly) else []


def _fit(tasks: pd.DataFrame, from_share: float) -> list[str]:
    trained = tasks[tasks["demo_exact"].notna()]
    lines = []
    unfit = trained[trained["demo_exact"] < UNFIT]
    if len(unfit):
        hint = "they lacked training, not votes"
        lines.append(f"{len(unfit)} of {count(len(trained), 'task')} ended with less than half of their demonstrations right: {hint}.")
    fit = trained[(trained["demo_exact"] >= from_share) & trained["state"].isin(["wrong", "nearly"])]
    if len(fit):
        lines.append(f"{count(len(fit), 'task')} had learnt their demonstrations and still went wrong: {_ids(fit)}.")
    return lines


def _unanswered(tasks: pd.DataFrame) -> list[str]:
    missing = tasks[~tasks["answered"]]
    if not len(missing):
        return []
    return [f"{count(len(missing), 'task has', 'tasks have')} no answer from the model, only a fallback: {_ids(missing)}."]


def _time(tasks: pd.DataFrame, timeline: Timeline) -> list[str]:
    used = usage(timeline)
    lines = []
    if used.total:
        parts = [f"{name} {percent(seconds / used.total)}" for name, seconds in (*used.phases.items(), ("idle", used.idle)) if seconds > 0]
        lines.append(f"Of {format_duration(used.total)} of the workers' time: {', '.join(parts)}.")
    early = [t for t in timeline.trainings if t.outcome == "votes agree" and t.planned is not None]
    if early:
        saved = sum(max(0.0, (t.planned or 0.0) - t.seconds) for t in early)
        lines.append(f"{count(len(early), 'training')} stopped early, as the votes agreed, and gave back {format_duration(saved)}.")
    return lines


def _ids(tasks: pd.DataFrame, most: int = 8) -> str:
    ids: Sequence[str] = [str(t) for t in tasks["task"]]
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")
