"""The lines of the table: each a value against a baseline of the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pandas as pd

GROUPS = ("augmentation", "training", "rate", "inference", "fitting", "memory", "start", "growth", "estimate")


@dataclass(frozen=True)
class Row:
    """`value` in `unit`; `ratio` to `baseline` (what that is, and its value in the same unit), above 1 where `value` is better."""

    group: str
    name: str
    value: float
    unit: str
    baseline: str = ""
    base_value: float | None = None
    ratio: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        ratio = "" if self.ratio is None else f", {self.ratio:.2f} x {self.baseline} ({shown(self.base_value)})"
        return "; ".join(filter(None, [f"{self.group}: {self.name}: {shown(self.value)} {self.unit}{ratio}", self.remarks]))

    @property
    def remarks(self) -> str:
        """`more` as text."""
        return "; ".join(f"{key} {shown(value)}" for key, value in self.more.items())


def shown(value: object) -> str:
    """`value` for a reader: a float with four digits and without an exponent, anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    digits = f"{value:.4g}"
    return f"{float(digits):,.0f}" if "e+" in digits else digits


def against(
    group: str,
    name: str,
    unit: str,
    value: float,
    baseline: str,
    base_value: float,
    *,
    faster: bool = True,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Row:
    """A row whose ratio is above 1 where `value` is better: larger, or smaller where `faster` is False (seconds, bytes)."""
    return Row(group, name, value, unit, baseline, base_value, value / base_value if faster else base_value / value, dict(more))


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as text."""
    lines = [
        {
            "row": row.group,
            "what": row.name,
            "value": f"{shown(row.value)} {row.unit}",
            "baseline": row.baseline if row.base_value is None else f"{shown(row.base_value)}, {row.baseline}",
            "ratio": "" if row.ratio is None else f"{row.ratio:.2f}",
            "more": row.remarks,
        }
        for row in rows
    ]
    return pd.DataFrame(lines, columns=["row", "what", "value", "baseline", "ratio", "more"])
