"""What a Kaggle session would take, from what one GPU is measured to do: 240 tasks of ARC-AGI-2's sizes on four L4 cards.

An L4 is taken to be slower than the measured card by the larger of two ratios, of matrix-product rates and of memory bandwidths. Its
own are those of its data sheet, which no real program reaches, against measured ones here: so the seconds are likely too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import mean

import torch

from hrm_submit.config.layers import load_preset
from hrm_submit.model.weights import CheckpointMeta, snapshot
from lab.bench.inference import kit_voter
from lab.bench.rows import Row
from lab.bench.timing import medians, products, seconds
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
        step = medians({t.id: segment(trained, batch_of(t, way)) for t in chosen}, repeats=repeats, device=device)
        voter = kit_voter(way.preset, snapshot(trained.model, trained.embedding, CheckpointMeta()), device)
        voter.answers(chosen[0])
        vote = mean(seconds(partial(voter.answers, t), device) for t in chosen)
        here = SEGMENTS * mean(step.values()) + vote
        more = {"a task here": round(here, 2), "slower": round(slower, 2)}
        found.append(Row("estimate", f"{name}, {TASKS} tasks, {CARDS} x L4", TASKS / CARDS * here * slower, "s", more=more))
    return found


def _rate(device: str, repeats: int) -> float:
    calls = products(device, torch.bfloat16)
    took = medians({name: call for name, (call, _) in calls.items()}, repeats=repeats, device=device)
    return max(work / took[name] for name, (_, work) in calls.items())


def _bandwidth(device: str, repeats: int) -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.empty(2**29, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * source.numel() / medians({"copy": lambda: target.copy_(source)}, repeats=repeats, device=device)["copy"]
