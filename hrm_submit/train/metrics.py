"""What a training run tells while it goes on: `metrics.jsonl`, a progress bar or plain lines, TensorBoard, a plot at the end."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hrm_submit.core.clock import format_duration
from hrm_submit.train.loop import SegmentReport

log = logging.getLogger(__name__)


class MetricsLog:
    """Collects segment reports, and every `every` segments writes their means as one line to `folder/metrics.jsonl`.

    Reading the tensors waits for the device, so it happens once a line. A full disk costs lines, never the run.
    """

    def __init__(self, folder: Path, every: int, ranks: int) -> None:
        self._path, self._every, self._ranks = folder / "metrics.jsonl", every, ranks
        self._reports: list[SegmentReport] = []
        self._last_seconds: float | None = None
        self._bar = tqdm(total=100.0, unit="%", disable=not sys.stderr.isatty(), bar_format="{percentage:3.0f}%|{bar}| {postfix}")
        self._next_line = 0.0
        self._board = _tensorboard(folder)

    def add(self, report: SegmentReport, seconds: float, progress: float, factor: float) -> None:
        """Take a segment's report; `seconds` since the run began, `progress` 0..1, `factor` of the learning rates."""
        self._reports.append(report)
        if self._last_seconds is None:
            self._last_seconds = seconds
        if len(self._reports) < self._every:
            return
        line = self._summary(seconds) | {"progress": round(progress, 4), "rate": round(factor, 4)}
        self.write(line)
        left = format_duration(seconds * (1 - progress) / progress) if progress > 0 else "?"
        speed = f"{line['examples_per_second']:.0f} examples/s"
        text = f"segment {line['segment']}: loss {line['loss']:.3f}, exact {line['exact']:.1%}, {speed}, {left} left"
        if not self._bar.disable:
            self._bar.update(100 * progress - self._bar.n)
            self._bar.set_postfix_str(text)
        elif seconds >= self._next_line:
            self._next_line = seconds + 60.0
            log.info("%s", text)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line as it is."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            log.warning("%s: %s", self._path, error.strerror or error)
        if self._board is not None:
            for key, value in line.items():
                if key != "segment" and isinstance(value, (int, float)):
                    self._board.add_scalar(key, value, line["segment"])

    def close(self) -> None:
        """Leave the terminal as it was, and draw the run's curves as `metrics.svg`."""
        self._bar.close()
        if self._board is not None:
            self._board.close()
        try:
            plot(self._path, self._path.with_suffix(".svg"))
        except Exception as error:  # a picture is never worth a run
            log.warning("no plot: %s", error)

    def _summary(self, seconds: float) -> dict[str, Any]:
        reports, metrics = self._reports, [r.metrics for r in self._reports]
        loss = torch.stack([r.loss.float() for r in reports]).mean().item()
        counted = max(1, torch.stack([m.count for m in metrics]).sum().item())
        exact = torch.stack([m.exact_accuracy for m in metrics]).sum().item() / counted
        cells = torch.stack([m.accuracy for m in metrics]).sum().item() / counted
        examples = sum(r.size for r in reports) * self._ranks
        took = max(1e-9, seconds - (self._last_seconds or 0.0))
        self._reports, self._last_seconds = [], seconds
        return {
            "segment": reports[-1].segment,
            "seconds": round(seconds, 2),
            "loss": round(loss, 5),
            "exact": round(exact, 5),
            "cells": round(cells, 5),
            "examples_per_second": round(examples / took, 2),
        }


def plot(metrics: Path, output: Path) -> None:
    """Loss and exact-grid accuracy against segments, with validations where there were any, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [json.loads(text) for text in metrics.read_text(encoding="utf-8").splitlines()]
    training, checks = [x for x in lines if "loss" in x], [x for x in lines if "validation_pass@2" in x]
    figure, left = pyplot.subplots(figsize=(8, 4.5))
    right = left.twinx()
    left.plot([x["segment"] for x in training], [x["loss"] for x in training], color="tab:blue", linewidth=1)
    right.plot([x["segment"] for x in training], [x["exact"] for x in training], color="tab:orange", linewidth=1, label="exact grids")
    if checks:
        right.plot(
            [x["segment"] for x in checks], [x["validation_pass@2"] for x in checks], "o-", color="tab:green", label="validation pass@2"
        )
    left.set(xlabel="segments", ylabel="loss (nats per cell)", yscale="log")
    right.set(ylabel="share", ylim=(0, 1))
    right.legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(output)
    pyplot.close(figure)


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
