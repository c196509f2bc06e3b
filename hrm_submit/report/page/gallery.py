"""The gallery: a card for each task, and behind each card all that is known of it.

Notable: cards show what went in, both attempts and the truth at once; demonstrations, candidates and curves are packed, and
unpacked by the browser when the card is opened, so that 240 tasks stay a light page.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import pandas as pd

from hrm_submit.arc.task import Grid, same_grid
from hrm_submit.core.clock import format_duration
from hrm_submit.report.draw.sparkline import training_curve
from hrm_submit.report.page.markup import facts, packed, picture
from hrm_submit.report.run.load import RunData, Snapshot
from hrm_submit.report.run.tables import Tables, truth_of
from hrm_submit.report.run.timeline import Timeline, Training
from hrm_submit.report.run.words import count, known, percent

STATES = {"solved": "✓ solved", "nearly": "≈ nearly", "wrong": "✗ wrong", "unknown": "? no truth"}
THUMB, LARGE = 104, 210
"""Pixels of the longer side of a grid on a card, and behind it."""


class Gallery:
    """Makes the cards of a run, whose rows it looks up by task."""

    def __init__(self, data: RunData, tables: Tables, timeline: Timeline) -> None:
        self._data, self._tables = data, tables
        self._outputs = {str(task): group for task, group in tables.outputs.groupby("task", sort=False)}
        self._trainings: dict[str, list[Training]] = {}
        for training in timeline.trainings:
            self._trainings.setdefault(training.task, []).append(training)
        self._snapshots: dict[tuple[str, int], list[Snapshot]] = {}
        for snapshot in data.snapshots:
            self._snapshots.setdefault((snapshot.task, snapshot.output), []).append(snapshot)

    def cards(self) -> Iterator[str]:
        """One after the other, in the file's order."""
        for number, row in enumerate(self._tables.tasks.to_dict("records")):
            yield self._card(number, {str(k): v for k, v in row.items()})

    def _card(self, number: int, row: dict[str, Any]) -> str:
        task, state = str(row["task"]), str(row["state"])
        keys = {"order": number, "size": row["side"], "votes": row["votes_share"], "seconds": row["seconds"]}
        keys |= {"accuracy": row["best_cell_accuracy"], "segments": row["segments"]}
        data = "".join(f' data-{name}="{value:.9g}"' for name, value in keys.items() if known(value))
        flags = "" if row["answered"] else '<span class="flag">fallback answer</span>'
        if row["failures"]:
            flags += f'<span class="flag">{count(int(row["failures"]), "failure")}</span>'
        strips = "".join(self._strip(task, k, THUMB) for k in range(int(row["outputs"])))
        return (
            f'<li class="card {state}" data-id="{escape(task)}" data-state="{state}"{data}>'
            f'<div class="card-head"><button type="button" class="open" aria-haspopup="dialog">{escape(task)}</button>'
            f'<span class="state">{STATES[state]}</span></div>'
            f'<p class="hints">{self._hints(task, row)}{flags}</p>{strips}'
            f'<script type="text/plain" class="more">{packed(self._more(task, row))}</script></li>'
        )

    def _hints(self, task: str, row: dict[str, Any]) -> str:
        parts = []
        if task in self._data.tasks:
            parts.append(count(int(row["demonstrations"]), "demo"))
        if task in self._outputs:
            votes = [f"{v}/{of}" for v, of in self._outputs[task][["votes", "votes_of"]].to_numpy() if known(v)]
            parts += [f"{', '.join(votes)} votes"] if votes else []
        if known(row["best_cell_accuracy"]) and row["state"] != "solved":
            parts.append(f"{percent(row['best_cell_accuracy'])} of cells")
        if known(row["seconds"]):
            parts.append(format_duration(row["seconds"]))
        return escape(" · ".join(parts))

    def _strip(self, task: str, k: int, side: int, *, votes: bool = False) -> str:
        """Test input, both attempts (with their `votes` if wanted), and the truth where it is known."""
        truth, name = truth_of(self._data, task, k), escape(f"test {k + 1}")
        given = self._data.tasks.get(task)
        answers = self._data.answers[task]
        attempts: tuple[Grid | None, ...] = answers[k] if k < len(answers) else (None, None)
        shown = [picture(given.test[k], "input", f"{name}, input", side=side)] if given else []
        for n, grid in enumerate(attempts, 1):
            note = self._note(task, k, n, grid) if votes else ""
            shown.append(_attempt(grid, truth, f"attempt {n}", f"{name}, attempt {n}", side, note))
        if truth is not None:
            shown.append(picture(truth, "truth", f"{name}, truth", side=side))
        return f'<div class="strip" style="--n:{len(shown)}">{"".join(shown)}</div>'

    def _more(self, task: str, row: dict[str, Any]) -> str:
        parts = []
        if task in self._data.faults:
            parts.append(f'<p class="fault">{escape(self._data.faults[task])}</p>')
        given = self._data.tasks.get(task)
        if given:
            pairs = []
            for n, pair in enumerate(given.train, 1):
                left = picture(pair.input, "input", f"demonstration {n}, input", side=LARGE)
                right = picture(pair.output, "output", f"demonstration {n}, output", side=LARGE)
                pairs.append(f'<li>{left}<span class="arrow" aria-hidden="true">→</span>{right}</li>')
            parts.append(f'<h3>Demonstrations</h3><ol class="pairs">{"".join(pairs)}</ol>')
        for k in range(int(row["outputs"])):
            number = f" {k + 1}" if int(row["outputs"]) > 1 else ""
            parts.append(f"<h3>Test{number}</h3>{self._strip(task, k, LARGE, votes=True)}{self._ranking(task, k)}{self._changes(task, k)}")
        parts.append(self._training(task, row))
        return "".join(parts)

    def _note(self, task: str, k: int, rank: int, grid: Grid | None) -> str:
        """Votes and score of the candidate that an attempt is; an attempt that is none came from the fallback."""
        candidates = self._data.candidates.get((task, k), ())
        if grid is None or not grid.size:
            return ""
        if rank > len(candidates) or not same_grid(candidates[rank - 1].grid, grid):
            return "fallback"
        c = candidates[rank - 1]
        return f"{c.votes} of {sum(x.votes for x in candidates)} votes<br>score {c.score:.3f}"

    def _ranking(self, task: str, k: int) -> str:
        """The candidates that came after the two attempts."""
        truth, items = truth_of(self._data, task, k), []
        for rank, c in enumerate(self._data.candidates.get((task, k), ())[2:], 3):
            note = self._note(task, k, rank, c.grid)
            items.append(f"<li>{_attempt(c.grid, truth, f'candidate {rank}', f'test {k + 1}, candidate {rank}', THUMB, note)}</li>")
        return f'<h4>Next candidates</h4><ol class="row">{"".join(items)}</ol>' if items else ""

    def _changes(self, task: str, k: int) -> str:
        """The best answer each time that it changed."""
        truth, items = truth_of(self._data, task, k), []
        snapshots = self._snapshots.get((task, k), [])
        for before, s in zip([None, *snapshots], snapshots, strict=False):
            if before is not None and same_grid(before.grid, s.grid):
                continue
            note = f"{s.votes} of {s.votes_of} votes"
            items.append(f"<li>{_attempt(s.grid, truth, f'at {format_duration(s.t)}', f'best answer at {s.t:.0f} s', THUMB, note)}</li>")
        if len(items) < 2:
            return ""
        last = snapshots[-1]
        until = f"of {count(len(snapshots), 'vote')} until {format_duration(last.t)}"
        return f'<h4>How the best answer changed <small>{until}</small></h4><ol class="row">{"".join(items)}</ol>'

    def _training(self, task: str, row: dict[str, Any]) -> str:
        trainings = self._trainings.get(task, [])
        if not trainings:
            return ""
        planned = row["planned_seconds"]
        share = f" of {format_duration(planned)} planned" if known(planned) else ""
        shown = facts(
            [
                ("trainings", row["trainings"]),
                ("segments", f"{row['segments']:,}"),
                ("time", f"{format_duration(row['seconds'])}{share}"),
                ("demonstrations right at the end", percent(row["demo_exact"]) if known(row["demo_exact"]) else None),
                ("last loss", f"{row['loss']:.3g}" if known(row["loss"]) else None),
                ("worker", ", ".join(dict.fromkeys(str(t.worker) for t in trainings))),
                ("ended", "; ".join(t.outcome for t in trainings)),
            ]
        )
        return f"<h3>Test-time training</h3>{training_curve(trainings)}{shown}"


def _attempt(grid: Grid | None, truth: Grid | None, caption: str, label: str, side: int, note: str = "") -> str:
    """An answer with its wrong cells marked, or its shape told where that is wrong."""
    if truth is None or grid is None or not grid.size:
        return picture(grid, caption, label, side=side, note=note)
    if grid.shape != truth.shape:
        wanted = f"{_shape(grid)}, not {_shape(truth)}"
        return picture(grid, f"{caption} ✗", f"{label}, of the wrong size", side=side, note=f"{wanted}<br>{note}" if note else wanted)
    right = same_grid(grid, truth)
    wrong = None if right else grid != truth
    return picture(
        grid, f"{caption} {'✓' if right else '✗'}", f"{label}, {'right' if right else 'wrong'}", side=side, wrong=wrong, note=note
    )


def _shape(grid: Grid) -> str:
    return f"{grid.shape[0]}x{grid.shape[1]}"


def state_counts(tasks: pd.DataFrame) -> dict[str, int]:
    """How many tasks are in each state, states without any among them."""
    return {state: int((tasks["state"] == state).sum()) for state in STATES}
