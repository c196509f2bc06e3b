"""What recorded runs tell once the solutions are known: how well what was seen foretold the end, and what other shares would have done.

Each function prints its table and returns the exit status. Both raise ConfigError for recordings that are too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hrm_submit.core.errors import ConfigError
from lab.budget.divisions import divisions, table
from lab.budget.looks import Look
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
    print(f"{outputs} outputs, {total:.0f} seconds of a worker in all; by the last vote within a task's seconds")
    print(table(found, outputs).round(3).to_string(index=False))
    return 0
