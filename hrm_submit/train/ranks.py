"""Several processes as one trainer: who this one is, and how gradients are joined. One process needs no communication.

Under `torchrun` (its environment variables say so) `join_ranks` opens the process group: nccl on GPUs, gloo on CPUs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


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
        dist.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors (B, ...) of all ranks, one after the other, (world * B, ...)."""
        if self.world == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def most(self, value: float) -> float:
        """The largest `value` of any rank, so that all of them decide alike."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return float(shared.item())

    def slice(self, size: int) -> slice:
        """This rank's share of a global batch of `size`, which `world` must divide."""
        part = size // self.world
        return slice(self.rank * part, (self.rank + 1) * part)


def local_world() -> int:
    """Ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def rank_device(devices: list[str]) -> str:
    """This rank's device: ranks of one machine take its GPUs in turn."""
    return devices[int(os.environ.get("LOCAL_RANK", "0")) % len(devices)]


def join_ranks(device: str) -> Ranks:
    """The process group of `torchrun`, or a single rank where there is none."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group("gloo" if device == "cpu" else "nccl")
    return Ranks(dist.get_rank(), world)


def leave_ranks(ranks: Ranks) -> None:
    """Close the process group, if there is one."""
    if ranks.world > 1 and dist.is_initialized():
        dist.destroy_process_group()
