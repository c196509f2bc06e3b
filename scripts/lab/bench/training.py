"""Training segments on real batches: the preset as it is, the preset on 900 tokens, and the published way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import torch

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.schema import Preset
from hrm_submit.core.device import on_threads
from hrm_submit.run.cost import segment_work
from lab.bench.published import SIDE
from lab.bench.rows import Row, against
from lab.bench.timing import medians, products
from lab.bench.work import ARC_1, ARC_2, Way, batch_of, our_way, published_way, sample, segment, sized, threads, trainer

WAY = "published way"
EQUAL = "kit on 900 tokens"
FASTER: dict[str, dict[str, Any]] = {
    "kit compiled": {"compile": True},
    "kit recorded": {"cuda_graphs": True},
    "kit compiled and recorded": {"compile": True, "cuda_graphs": True},
}
"""What `[device]` can be told of a GPU, measured there beside the preset as it is."""


def rows(repeats: int, device: str, presets: Sequence[str], tasks: int) -> list[Row]:
    """Examples a second, against the published way and against the kit's own on 900 tokens; shares of the matrix-product rate."""
    found = []
    for name in presets:
        preset = sized(load_preset(name), device)
        with on_threads(threads(preset)):
            found += _of_preset(name, preset, repeats, device, tasks)
    return found


def _of_preset(name: str, preset: Preset, repeats: int, device: str, n: int) -> list[Row]:
    ours, full, theirs = our_way(preset, device), our_way(preset, device, SIDE), published_way(preset, device)
    tasks = {dataset: sample(dataset, n) for dataset in (ARC_1, ARC_2)}
    some = tasks[ARC_1][n // 2]  # on 900 tokens every task costs the same
    ready = trainer(ours)
    calls = {
        WAY: segment(trainer(theirs), batch_of(some, theirs)),
        EQUAL: segment(trainer(full), batch_of(some, full)),
        **{f"{dataset} {t.id}": segment(ready, batch_of(t, ours)) for dataset, some in tasks.items() for t in some},
    }
    faster = faster_ways(ours)
    calls |= {what: segment(trainer(way), batch_of(some, way)) for what, way in faster.items()}
    dtype = getattr(torch, ours.runtime.dtype)
    peaks = products(device, dtype)
    took = medians({**calls, **{key: call for key, (call, _) in peaks.items()}}, repeats=repeats, device=device)
    size = preset.ttt.batch_size
    base, equal = size / took[WAY], size / took[EQUAL]
    found = [
        against("training", f"{name}, 900 tokens", "examples/s", equal, WAY, base, more={"batch": size, "threads": torch.get_num_threads()})
    ]
    for what in faster:
        about = {"batch": size, "cells": canvas_side(some) ** 2, "kit as it is": round(size / took[f"{ARC_1} {some.id}"], 1)}
        found.append(against("training", f"{name}, {ARC_1} {some.id}, {what}", "examples/s", size / took[what], WAY, base, more=about))
    peak = max(work / took[key] for key, (_, work) in peaks.items())
    limit = f"{ours.runtime.dtype} matrix product"

    def share(what: str, work: float, spent: float) -> Row:
        return against("rate", f"{name}, {what}", "GFLOP/s", work / spent / 1e9, limit, peak / 1e9, more={"batch": size})

    for dataset, chosen in tasks.items():
        spent = sum(took[f"{dataset} {t.id}"] for t in chosen)
        about = {"batch": size, "tasks": n, "mean cells": round(mean(canvas_side(t) ** 2 for t in chosen))}
        found.append(against("training", f"{name}, {dataset}", "examples/s", size * n / spent, WAY, base, more=about))
        found.append(against("training", f"{name}, {dataset}, by its canvas alone", "examples/s", size * n / spent, EQUAL, equal))
        found.append(share(dataset, sum(segment_work(preset.model, preset.ttt, canvas_side(t) ** 2) for t in chosen), spent))
    found.append(share("900 tokens", segment_work(preset.model, preset.ttt, SIDE**2), took[EQUAL]))
    found.append(share("900 tokens, published way", segment_work(theirs.preset.model, theirs.preset.ttt, SIDE**2), took[WAY]))
    return found


def faster_ways(ours: Way) -> dict[str, Way]:
    """What a GPU may do faster than `ours`; nothing on a CPU."""
    if ours.runtime.device == "cpu":
        return {}
    return {what: replace(ours, runtime=replace(ours.runtime, **keys)) for what, keys in FASTER.items()}
