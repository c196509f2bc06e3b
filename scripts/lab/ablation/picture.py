"""pass@1 and pass@2 of every variant with their intervals, as a picture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lab.ablation.table import interval, parse_marks


def draw(rows: pd.DataFrame, title: str, path: Path) -> None:
    """A dot for the mean, a line for its 95 % interval, variants from top to bottom; the file's kind is that of its name."""
    import matplotlib
    from matplotlib.figure import Figure

    groups = [(str(variant), [parse_marks(text) for text in group["results"]]) for variant, group in rows.groupby("variant", sort=False)]
    with matplotlib.rc_context({"svg.hashsalt": "ablation"}):  # the same table gives the same file
        figure = Figure(figsize=(7, 1.2 + 0.45 * len(groups)), layout="constrained")
        axes = figure.add_subplot()
        for k, colour, shift in ((2, "tab:blue", -0.12), (1, "tab:orange", 0.12)):
            for n, (_, runs) in enumerate(groups):
                found = interval(runs, 1 if k == 1 else 2)
                spread = [[100 * (found.value - found.low)], [100 * (found.high - found.value)]]
                label = f"pass@{k}" if n == 0 else None
                axes.errorbar([100 * found.value], [n + shift], xerr=spread, fmt="o", color=colour, capsize=3, label=label)
        axes.set_yticks(range(len(groups)), [name for name, _ in groups])
        axes.invert_yaxis()
        axes.set(xlabel="test outputs right, %", title=title, xlim=(0, None))
        axes.grid(axis="x", alpha=0.3)
        axes.legend(loc="lower right")
        figure.savefig(path, metadata={"Date": None})
