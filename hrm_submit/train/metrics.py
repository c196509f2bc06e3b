"""Reports of a training run: `metrics.jsonl`, a bar, widget or plain lines, TensorBoard, a plot at the end."""

import json
import logging
import math
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch

from hrm_submit.core.clock import format_duration
from hrm_submit.core.errors import one_line
from hrm_submit.core.files import append_whole, write_atomic
from hrm_submit.core.terminal import bar, logs_above_bars, place
from hrm_submit.train.loop import SegmentReport
from hrm_submit.train.ranks import Ranks

log = logging.getLogger(__name__)

LINE_EVERY = 60.0
"""Seconds between two plain lines where no terminal shows a bar."""


class MetricsLog:
    """Collect segment reports, and every `every` segments append their means over all ranks to `folder/metrics.jsonl`.

    Every rank has one and adds up its own reports; only the first writes. Reading the tensors waits for the device, so it happens once a
    line. A full disk costs lines, never the run. Lines after `segment`, written by a killed run after its last save, are dropped.
    """

    def __init__(self, folder: Path, every: int, ranks: Ranks, segment: int, seconds: float) -> None:
        self._path, self._every, self._ranks = folder / "metrics.jsonl", every, ranks
        self._reports: list[SegmentReport] = []
        self._since, self._at = seconds, (0.0, 0.0, 0.0)
        self._next_line, self._diverged, self._unwritable = 0.0, False, False
        where = place() if ranks.leads else "plain"
        self._shown = ExitStack()
        self._shown.enter_context(logs_above_bars(where))
        self._bar = self._shown.enter_context(bar(where, total=100.0, unit="%", bar_format="{percentage:3.0f}%|{bar}| {desc}"))
        self._board = _tensorboard(folder, segment) if ranks.leads else None
        if ranks.leads and self._path.is_file():
            try:
                kept = [line for line in _lines(self._path) if line["segment"] <= segment]
                write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept))
            except OSError as error:
                log.warning("%s: %s", self._path, error.strerror or error)

    def add(self, report: SegmentReport, seconds: float, progress: float, factor: float) -> None:
        """Take a segment's report; `seconds` since the run began, `progress` 0..1, `factor` of the learning rates."""
        self._reports.append(report)
        self._at = (seconds, progress, factor)
        if len(self._reports) >= self._every:
            self._summarize()

    def write(self, line: dict[str, Any]) -> None:
        """Append a line; a number that is not finite becomes null."""
        if not self._ranks.leads:
            return
        line = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()}
        try:
            append_whole(self._path, (json.dumps(line) + "\n").encode())
        except OSError as error:
            if not self._unwritable:
                log.warning("%s: lines are lost: %s", self._path, error.strerror or error)
            self._unwritable = True
        if self._board is None:
            return
        try:
            for key, value in line.items():
                if key != "segment" and isinstance(value, (int, float)):
                    self._board.add_scalar(key, value, line["segment"])
        except Exception as error:  # whatever a full disk makes of its writer
            log.warning("no more lines for TensorBoard: %s", one_line(error))
            self._board = None

    def close(self) -> None:
        """Write what is left, restore the terminal, and plot the run as `metrics.svg`."""
        if self._reports:
            self._summarize()
        self._shown.close()
        if self._board is not None:
            with suppress(Exception):
                self._board.close()
        if self._ranks.leads:
            try:
                plot(self._path, self._path.with_suffix(".svg"))
            except Exception as error:  # a picture is never worth a run
                log.warning("no plot: %s", error)

    def _summarize(self) -> None:
        """Write and show the means of the reports since the last line."""
        (seconds, progress, factor), reports = self._at, self._reports
        figures = [(r.loss, r.metrics.count, r.metrics.exact_accuracy, r.metrics.accuracy) for r in reports]
        sums = torch.stack([torch.stack([t.double() for t in column]).sum() for column in zip(*figures, strict=True)])
        self._ranks.average([sums])
        loss, count, exact, cells = sums.tolist()
        line = {
            "segment": reports[-1].segment,
            "seconds": round(seconds, 2),
            "loss": round(loss / len(reports), 6),
            "exact": round(exact / count, 5) if count else 0.0,
            "cells": round(cells / count, 5) if count else 0.0,
            "examples_per_second": round(sum(r.size for r in reports) * self._ranks.world / max(1e-9, seconds - self._since), 2),
            "progress": round(progress, 4),
            "rate": round(factor, 4),
        }
        self._reports, self._since = [], seconds
        self.write(line)
        if not self._ranks.leads:
            return
        if not math.isfinite(line["loss"]) and not self._diverged:
            self._diverged = True
            log.warning("segment %d: the loss is not finite: the run has diverged; a lower rate may help", line["segment"])
        left = format_duration(seconds * (1 - progress) / progress) if progress > 0 else "?"
        speed = f"{line['examples_per_second']:.0f} examples/s"
        text = f"segment {line['segment']}: loss {line['loss']:.3f}, exact {line['exact']:.1%}, {speed}, {left} left"
        if not self._bar.disable:
            self._bar.update(100 * progress - self._bar.n)
            self._bar.set_description_str(text)
        elif seconds >= self._next_line:
            self._next_line = seconds + LINE_EVERY
            log.info("%s", text)


def plot(metrics: Path, output: Path) -> None:
    """Draw loss, exact-grid accuracy and validations against segments."""
    from matplotlib.figure import Figure

    lines, figure = _lines(metrics), Figure(figsize=(8, 4.5))
    left = figure.subplots()
    right = left.twinx()
    for axes, key, colour, style, label in (
        (left, "loss", "tab:blue", "-", None),
        (right, "exact", "tab:orange", "-", "exact grids"),
        (right, "validation_pass@2", "tab:green", "o-", "validation pass@2"),
    ):
        points = [(x["segment"], x[key]) for x in lines if x.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, linewidth=1, label=label)
    left.set(xlabel="segments", ylabel="loss", yscale="log")
    right.set(ylabel="share", ylim=(0, 1))
    right.legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(output)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a file; a kill may have torn the last one."""
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, RecursionError):
            found.append(json.loads(text))
    return [line for line in found if isinstance(line, dict) and isinstance(line.get("segment"), int)]


def _tensorboard(folder: Path, segment: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder / "tensorboard"), purge_step=segment + 1)
    except ImportError:
        return None
    except Exception as error:  # one that does not fit the packages beside it
        log.warning("no TensorBoard: %s", one_line(error))
        return None
