"""Figures in words."""

from __future__ import annotations

import math

import pandas as pd


def known(value: object) -> bool:
    """Whether there is something to show."""
    return value is not None and value is not pd.NA and value != "" and not (isinstance(value, float) and math.isnan(value))


def percent(share: float) -> str:
    """`12.5 %`"""
    return f"{100 * share:.1f} %"


def count(n: int, one: str, many: str | None = None) -> str:
    """`1 task`, `2 tasks`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
