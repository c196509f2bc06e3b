"""Work on tensors as CUDA graphs: recorded once for each set of shapes, then replayed with one launch.

- The first times work runs as it is, on a stream of its own, as recording needs; a recording itself computes nothing, so that no result
  differs from one that is not recorded.
- What changes between two runs is copied to memory that stays; what the work reads beside that (weights, moments, constants) must lie
  in memory that stays too.
- On a CPU there is no graph: the same work on the same memory is done anew each time, by which tests compare it with the plain way.

See CUDA Graphs in torch's notes on CUDA semantics.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3
"""Runs that are not recorded: torch's libraries set themselves up in the first ones."""

Work = Callable[..., tuple[Tensor, ...]]
"""Takes tensors on the device, each of the same shape and type whenever it runs under one key, and returns tensors there."""


class Recorder:
    """Recordings that share their memory: only one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._recordings: dict[Hashable, _Recording] = {}
        self._cuda = device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if self._cuda else None
        self._pool: Any = torch.cuda.graph_pool_handle() if self._cuda else None

    def run(self, key: Hashable, work: Work, *inputs: Tensor | float) -> tuple[Tensor, ...]:
        """`work(*inputs)`, a number given as a scalar tensor. `key` and the shapes tell which recording it is.

        The results lie in memory that the next run writes over: copy what is to stay.
        """
        shapes = tuple(value.shape if isinstance(value, Tensor) else None for value in inputs)
        recording = self._recordings.get((key, shapes))
        if recording is None:
            recording = self._recordings[key, shapes] = _Recording(inputs, self._device)
        recording.take(inputs)
        if recording.runs < WARM_UP or not self._cuda:
            with self._aside():
                recording.out = work(*recording.inputs)
        else:
            if recording.graph is None:
                recording.graph = self._record(recording, work)
            recording.graph.replay()
        recording.runs += 1
        return recording.out

    def _record(self, recording: _Recording, work: Work) -> Any:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self._device)
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            recording.out = work(*recording.inputs)
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

    def __init__(self, inputs: tuple[Tensor | float, ...], device: torch.device) -> None:
        self.inputs = [value.clone() if isinstance(value, Tensor) else torch.ones((), device=device) for value in inputs]
        self.runs = 0
        self.graph: Any = None
        self.out: tuple[Tensor, ...] = ()

    def take(self, inputs: tuple[Tensor | float, ...]) -> None:
        for mine, value in zip(self.inputs, inputs, strict=True):
            if isinstance(value, Tensor):
                mine.copy_(value)
            else:
                mine.fill_(value)
