"""Lines, bar, plot and events of a run, from segments with known figures."""

import json
import logging
import math
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest
import torch

from hrm_submit.model.losses import Metrics
from hrm_submit.train import metrics as module
from hrm_submit.train.loop import SegmentReport
from hrm_submit.train.metrics import MetricsLog, plot
from hrm_submit.train.ranks import Ranks
from tests.terminal import screen
from tests.train.lab import lines


def report(segment: int, loss: float = 1.5, count: int = 4, exact: int = 1, cells: float = 2.0) -> SegmentReport:
    number = torch.tensor
    sums = Metrics(number(count), number(cells), number(exact), *[number(0.0)] * 4, None)  # type: ignore[arg-type]
    return SegmentReport(segment, 4, 9, number(loss), sums)


@pytest.fixture(autouse=True)
def no_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "plot", lambda *paths: None)


@pytest.fixture
def log(tmp_path: Path) -> MetricsLog:
    return MetricsLog(tmp_path, 1, Ranks(), 0, 0.0)


def test_a_line_is_the_mean_over_its_segments(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, 2, Ranks(), 0, seconds=10.0)
    log.add(report(1, 3.0, count=4, exact=1, cells=2.0), 11.0, 0.1, 0.5)
    log.add(report(2, 1.0, count=2, exact=2, cells=1.0), 12.0, 0.2, 1.0)
    log.add(report(3, 5.0, count=0, exact=0, cells=0.0), 16.0, 0.3, 1.0)
    log.close()
    first, last = lines(tmp_path)
    means = {"segment": 2, "seconds": 12.0, "loss": 2.0, "exact": 0.5, "cells": 0.5}
    assert first == means | {"examples_per_second": 4.0, "progress": 0.2, "rate": 1.0}
    assert last["segment"] == 3 and last["examples_per_second"] == 1.0, "what is left is written at the end"
    assert last["exact"] == 0.0, "no sequence of it had halted"


def test_lines_after_the_restored_segment_and_torn_ones_are_dropped(tmp_path: Path) -> None:
    whole = [json.dumps({"segment": n, "loss": 1.0}) for n in range(1, 6)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(whole) + '\n{"segment": 6, "lo')
    MetricsLog(tmp_path, 1, Ranks(), 3, 0.0)
    assert [line["segment"] for line in lines(tmp_path)] == [1, 2, 3]


def test_a_fault_is_told_once_and_ends_no_run(
    tmp_path: Path, log: MetricsLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in (1, 2):
        log.add(report(n, math.nan), float(n), 0.1, 1.0)
    assert [line["loss"] for line in lines(tmp_path)] == [None, None] and caplog.text.count("diverged") == 1
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    for n in (3, 4):
        log.add(report(n), float(n), 0.1, 1.0)
    monkeypatch.setattr(module, "plot", Mock(side_effect=RuntimeError("no fonts")))
    log.close()
    assert caplog.text.count("lines are lost") == 1 and "no plot: no fonts" in caplog.text


def test_without_a_terminal_plain_lines_tell_how_it_goes(log: MetricsLog, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for n, seconds in enumerate((30.0, 40.0, 100.0), 1):
            log.add(report(n), seconds, seconds / 120, 1.0)
    texts = [r.getMessage() for r in caplog.records]
    assert texts[0] == "segment 1: loss 1.500, exact 25.0%, 0 examples/s, 1m30s left"
    assert len(texts) == 2 and texts[1].endswith("20.0s left"), "one line a minute is enough"


def test_a_bar_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "place", lambda: "one line")
    log = MetricsLog(tmp_path, 1, Ranks(), 0, 0.0)
    with caplog.at_level(logging.INFO):
        log.add(report(1), 60.0, 0.25, 1.0)
        log.close()
    line = screen(capsys.readouterr().err)[0]
    assert line.startswith(" 25%|") and line.endswith("segment 1: loss 1.500, exact 25.0%, 0 examples/s, 3m00s left")
    assert not caplog.records, "nothing is told twice"


def test_the_plot_shows_every_curve(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = [{"segment": n, "loss": 1.0 / n, "exact": n / 40} for n in range(1, 31)]
    told += [{"segment": 30, "validation_pass@2": 0.5}, {"segment": 31, "loss": None}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    plot(tmp_path / "metrics.jsonl", tmp_path / "m.svg")
    picture = (tmp_path / "m.svg").read_text()
    assert picture.lstrip().startswith("<?xml") and all(colour in picture for colour in ("#1f77b4", "#ff7f0e", "#2ca02c"))


def test_tensorboard_gets_every_figure_if_it_is_installed_and_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tensorboard = Mock()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", tensorboard)
    log = MetricsLog(tmp_path, 1, Ranks(), 0, 0.0)
    log.add(report(7), 60.0, 0.5, 1.0)
    log.close()
    assert tensorboard.mock_calls[0] == call.SummaryWriter(str(tmp_path / "tensorboard"), purge_step=1)
    written = tensorboard.SummaryWriter.return_value.mock_calls
    assert call.add_scalar("loss", 1.5, 7) in written and call.add_scalar("exact", 0.25, 7) in written and written[-1] == call.close()
    tensorboard.SummaryWriter.return_value.add_scalar.side_effect = OSError("No space left on device")
    log = MetricsLog(tmp_path, 1, Ranks(), 0, 0.0)
    for number in (1, 2):
        log.add(report(number), 60.0, 0.5, 1.0)
    assert caplog.text.count("no more lines for TensorBoard") == 1 and len(lines(tmp_path)) == 2
    tensorboard.SummaryWriter.side_effect = TypeError("protobuf")
    MetricsLog(tmp_path, 1, Ranks(), 0, 0.0).close()
    assert "no TensorBoard: TypeError: protobuf" in caplog.text


def test_only_the_first_rank_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "average", lambda self, tensors: None)
    log = MetricsLog(tmp_path, 1, Ranks(1, 2), 0, 0.0)
    log.add(report(1), 60.0, 0.5, 1.0)
    log.close()
    assert list(tmp_path.iterdir()) == []
