"""A training segment as one CUDA graph: recorded once for each canvas and batch, then replayed with one launch.

- The first segments run as they are, on a stream of their own, as recording needs; a recording itself computes nothing, so that no step
  of the training differs from one that is not recorded.
- What changes between segments lies in memory that stays: the batch, the factor of the rates, weights, moments. What a segment reports
  is copied out, since the next replay writes over it.
- On a CPU there is no graph: the same work on the same memory is done anew each time, by which tests compare it with the plain loop.

See CUDA Graphs in torch's notes on CUDA semantics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.model.act import Batch
from hrm_submit.model.losses import Metrics

WARM_UP = 3
"""Segments that run unrecorded: torch's libraries set themselves up in the first ones."""

Work = Callable[[Batch, Tensor], tuple[Tensor, Metrics]]
"""A segment of training on a batch at a factor (a scalar tensor) of the rates; returns loss and metrics."""


def recordable(model: ModelConfig, config: TrainConfig) -> bool:
    """Whether segments are alike: none carries a state on, draws a halting, or counts in Python."""
    return min(config.segments, model.halt_max_steps) == 1 and config.optimizer != "adam_atan2"


class Recorder:
    """The recordings of one trainer, which share their memory: only one is replayed at a time."""

    def __init__(self, work: Work, device: torch.device) -> None:
        self._work, self._device = work, device
        self._recordings: dict[tuple[torch.Size, ...], _Recording] = {}
        self._cuda = device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if self._cuda else None
        self._pool: Any = torch.cuda.graph_pool_handle() if self._cuda else None

    def run(self, batch: Batch, factor: float) -> tuple[Tensor, Metrics]:
        """One segment on `batch`, whose shapes tell which recording it is, at `factor` of the rates; loss and metrics are the caller's."""
        key = tuple(getattr(batch, f.name).shape for f in fields(Batch))
        recording = self._recordings.get(key)
        if recording is None:
            recording = self._recordings[key] = _Recording(batch, self._device)
        recording.take(batch, factor)
        if recording.runs < WARM_UP or not self._cuda:
            with self._aside():
                recording.out = self._work(recording.batch, recording.factor)
        else:
            if recording.graph is None:
                recording.graph = self._record(recording)
            recording.graph.replay()
        recording.runs += 1
        return _copied(recording.out)

    def _record(self, recording: _Recording) -> Any:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self._device)
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            recording.out = self._work(recording.batch, recording.factor)
        return graph

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """A stream of its own, before and after which the usual one waits."""
        if not self._cuda:
            yield
            return
        usual = torch.cuda.current_stream()
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)


class _Recording:
    """Memory that a recording reads and writes, and how often it ran."""

    def __init__(self, batch: Batch, device: torch.device) -> None:
        self.batch = Batch(**{f.name: getattr(batch, f.name).clone() for f in fields(Batch)})
        self.factor = torch.ones((), device=device)
        self.runs = 0
        self.graph: Any = None
        self.out: Any = None

    def take(self, batch: Batch, factor: float) -> None:
        for f in fields(Batch):
            getattr(self.batch, f.name).copy_(getattr(batch, f.name))
        self.factor.fill_(factor)


def _copied(out: tuple[Tensor, Metrics]) -> tuple[Tensor, Metrics]:
    """Loss and metrics in memory of their own, by one copy."""
    loss, metrics = out
    told = {f.name: getattr(metrics, f.name) for f in fields(Metrics)}
    names = [name for name, value in told.items() if value is not None]
    values = torch.stack([loss.float(), *(told[name].float() for name in names)])
    return values[0], replace(metrics, **dict(zip(names, values[1:], strict=True)))
