"""Several processes as one trainer: the number of this one, and how gradients are joined. One process needs no communication.

- Under `torchrun` (its environment variables say so) `joined` opens the process group: tensors on GPUs travel by nccl, everything on CPUs
  by gloo, so that agreeing on what to do next never waits for a GPU.
- A rank that ends breaks its connections, which ends the others with a TrainError; one that hangs does so after `TIMEOUT`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hrm_submit.core.device import NO_ENGINE, no_engine, out_of_memory
from hrm_submit.core.errors import ConfigError, TrainError

T = TypeVar("T")

TIMEOUT = timedelta(minutes=15)
"""Longest wait of a rank for the others; the first one may meanwhile write a large state to a slow disk."""


class SharedMemoryError(MemoryError):
    """A rank ran out of memory before any rank changed a weight."""


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `world`."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def average(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over all ranks, in one message."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        with self._exchange():
            dist.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def gather(self, tensor: Tensor) -> Tensor:
        """Concatenate the tensors (B, ...) of all ranks to (world * B, ...)."""
        if self.world == 1:
            return tensor
        # As bytes, since not every backend knows every number format.
        raw = tensor.contiguous().reshape(-1).view(torch.uint8)
        parts = [torch.empty_like(raw) for _ in range(self.world)]
        with self._exchange():
            dist.all_gather(parts, raw)
        return torch.cat(parts).view(tensor.dtype).view(-1, *tensor.shape[1:])

    def collect(self, value: T) -> list[T]:
        """Return every rank's `value` in order; it must pickle."""
        values = [value] * self.world
        if self.world > 1:
            with self._exchange():
                dist.all_gather_object(values, value)
        return values

    def most(self, *values: float) -> list[float]:
        """Return the largest of each of `values` over all ranks, so that all decide alike."""
        return self.gather(torch.tensor([values], dtype=torch.float64)).amax(0).tolist()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise SharedMemoryError on every rank if the block ran out of memory on any; the block must not communicate."""
        failed = engine = False
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if self.world == 1 or not out_of_memory(error):
                raise
            failed, engine = True, no_engine(error)
        if self.world > 1:
            any_failed, any_engine = self.most(failed, engine)
            if any_failed:
                raise SharedMemoryError(f"{'u' + NO_ENGINE if any_engine else 'out of memory'}, on {'this' if failed else 'another'} rank")

    def slice(self, size: int) -> slice:
        """Return this rank's share of a global batch of `size`, which `world` must divide."""
        part = size // self.world
        return slice(self.rank * part, (self.rank + 1) * part)

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).split("\n", 1)[0]
            raise TrainError(f"rank {self.rank} of {self.world} lost the others, continue with --resume: {reason}") from None


ALONE = Ranks()


def local_world() -> int:
    """Return the number of ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def rank_device(devices: list[str]) -> str:
    """Choose this rank's device: one of `devices` each; any number share the CPU. Raises ConfigError for too few GPUs."""
    if devices == ["cpu"]:
        return "cpu"
    if local_world() > len(devices):
        raise ConfigError(f"{local_world()} ranks on this machine, but only {', '.join(devices)} to share; start torchrun with fewer")
    return devices[int(os.environ.get("LOCAL_RANK", "0"))]


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Be a rank of the process group of `torchrun` while the block runs, or a single rank without one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    dist.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl", timeout=TIMEOUT)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
