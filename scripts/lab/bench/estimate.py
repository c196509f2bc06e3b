"""What a Kaggle session would take, from what one GPU is measured to do: 240 tasks of ARC-AGI-2's sizes on four L4 cards.

Launches and kernels are told apart. A step here takes the longer of launching its kernels and of running them. On an L4 the kernels are
taken to be slower by the larger of two ratios, of matrix-product rates and of memory bandwidths, and launches, which are the CPU's work,
to cost the same. An L4's rates are those of its data sheet, which no real program reaches, against measured ones here: so the seconds are
likely too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import mean

import torch

from hrm_submit.config.preset_files import load_preset
from hrm_submit.model.weights import CheckpointMeta, snapshot
from lab.bench.inference import kit_voter
from lab.bench.rows import Row
from lab.bench.timing import busy_seconds, medians, products, seconds
from lab.bench.work import ARC_2, batch_of, our_way, sample, segment, trainer

L4_OPERATIONS, L4_BYTES = 121e12, 300e9
"""bfloat16 products without sparsity, and memory bandwidth, a second (NVIDIA's data sheet)."""
CARDS = 4
TASKS = 240
SEGMENTS = 500
"""Of each task's test-time training, in batches of the preset's own size; then a vote with its number of views."""


def rows(repeats: int, device: str, presets: Sequence[str], tasks: int) -> list[Row]:
    """Seconds of the session for each preset, one worker a card; nothing without a GPU."""
    if device == "cpu":
        return []
    slower = max(_rate(device, repeats) / L4_OPERATIONS, _bandwidth(device, repeats) / L4_BYTES)
    found = []
    for name in presets:
        way, chosen = our_way(load_preset(name), device), sample(ARC_2, tasks)
        trained = trainer(way)
        calls = {t.id: segment(trained, batch_of(t, way)) for t in chosen}
        step = medians(calls, repeats=repeats, device=device)
        busy = {t: busy_seconds(call, device) for t, call in calls.items()}
        voter = kit_voter(way.preset, snapshot(trained.model, trained.embedding, CheckpointMeta()), device)
        voter.answers(chosen[0])
        asks = {t.id: partial(voter.answers, t) for t in chosen}
        vote = {t: seconds(ask, device) for t, ask in asks.items()}
        voting = {t: busy_seconds(ask, device) for t, ask in asks.items()}
        here = SEGMENTS * mean(step.values()) + mean(vote.values())
        there = mean(SEGMENTS * elsewhere(step[t], busy[t], slower) + elsewhere(vote[t], voting[t], slower) for t in step)
        more = {"a task here": round(here, 2), "GPU busy": round(sum(busy.values()) / sum(step.values()), 2), "slower": round(slower, 2)}
        found.append(Row("estimate", f"{name}, {TASKS} tasks, {CARDS} x L4", TASKS / CARDS * there, "s", more=more))
    return found


def elsewhere(seconds: float, busy: float, slower: float) -> float:
    """Seconds on a GPU whose kernels take `slower` times as long, of what takes `seconds` here, `busy` of them in kernels."""
    return max(seconds, slower * busy)


def _rate(device: str, repeats: int) -> float:
    calls = products(device, torch.bfloat16)
    took = medians({name: call for name, (call, _) in calls.items()}, repeats=repeats, device=device)
    return max(work / took[name] for name, (_, work) in calls.items())


def _bandwidth(device: str, repeats: int) -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.empty(2**29, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * source.numel() / medians({"copy": lambda: target.copy_(source)}, repeats=repeats, device=device)["copy"]
