"""What recorded runs tell once solutions are known.

How well what was seen foretold the end, what other shares would have done, and what more time is best spent on. Each function prints its
table. The first two return the exit status, and raise ConfigError for recordings that are too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hrm_submit.arc.task import Solutions
from hrm_submit.core.errors import ConfigError
from lab.budget.buys import worth_buying
from lab.budget.divisions import divisions, table
from lab.budget.looks import Look
from lab.budget.recording import Recording
from lab.budget.seen import FEATURES, draw_reliability, fit_chance, held_out, reliability


def show_reliability(looks: Sequence[Look], path: Path) -> int:
    """How well what was seen of a task foretells whether it is solved."""
    try:
        chances = held_out(looks)
    except ValueError as error:
        raise ConfigError(f"--reliability: {error}") from None
    judged = reliability(looks, chances)
    print(judged.round(3).to_string(index=False))
    print("\n" + ", ".join(f"{name} {b:+.2f}" for name, b in zip(FEATURES, fit_chance(looks).beta, strict=True)))
    draw_reliability(judged, path)
    print(f"written: {path}")
    return 0


def show_divisions(looks: Sequence[Look], total: float) -> int:
    """What divisions of `total` seconds of a worker would have solved."""
    try:
        found = divisions(looks, total)
    except ValueError as error:
        raise ConfigError(f"--divisions: {error}") from None
    outputs = len({(k.task, k.output) for k in looks})
    print(f"{outputs} outputs, {total:.0f} seconds of a worker in all")
    print(table(found, outputs).round(3).to_string(index=False))
    return 0


def show_buys(recordings: Sequence[Recording], segments: float, solutions: Solutions) -> None:
    """What raises pass@2 most, in points, from where the first of `recordings` is."""
    found = worth_buying(recordings, segments, solutions)
    print("\nwhat more time buys, in points of pass@2 (time: of what a task has now, votes aside)")
    print(found.round(1).to_string(index=False))
    best = found.sort_values("points", ascending=False, kind="stable").iloc[0]
    sure = "" if best["low"] > 0 else ", which may be chance"
    print(f"best buy: {best['buy']}{sure}" if best["points"] > 0 else "best buy: none of these gains anything")
