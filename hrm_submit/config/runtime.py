"""What a machine's devices call for: the preset of its cards, and how a model runs where `[device]` says auto."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from hrm_submit.config.preset_files import load_preset, preset_names
from hrm_submit.config.schema import DeviceConfig, Engine, Kernels
from hrm_submit.core.device import Card, cpu_dtype, gpu_dtypes


@dataclass(frozen=True)
class Runtime:
    """How a model runs on a device (`"cpu"`, `"cuda:0"`)."""

    device: str
    dtype: str
    attention: Literal["sdpa", "math"]
    kernels: Kernels
    engine: Engine
    threads: int


def runtime_for(device: str, config: DeviceConfig) -> Runtime:
    """The number format, attention and engine for `device`: what `config` names, or by capability where it says auto."""
    dtype = config.dtype
    if dtype == "auto":
        dtype = gpu_dtypes(device)[0] if device != "cpu" else cpu_dtype()  # type: ignore[assignment]
    attention = config.attention
    if attention == "auto":
        # In half precision written-out attention is faster than a CPU's fused kernel, backwards above all; in float32 the fused kernel is.
        attention = "math" if device == "cpu" and dtype != "float32" else "sdpa"
    engine: Engine = "plain" if config.engine == "auto" else config.engine
    suited = device == "cpu" and dtype in ("float32", "bfloat16") and (config.kernels == "numba" or engine == "plain")
    kernels: Kernels = "numba" if suited and config.kernels != "torch" else "torch"
    return Runtime(device, dtype, attention, kernels, engine, config.threads)


BFLOAT16 = 8.0
"""CUDA capability from which cards compute in bfloat16."""


@cache
def card_presets() -> dict[str, DeviceConfig]:
    """`[device]` of the presets for machines with GPUs, by name."""
    devices = {name: load_preset(name).device for name in preset_names()}
    return {name: device for name, device in devices.items() if device.card}


def preset_of_cards(cards: Sequence[Card]) -> str:
    """Name of the preset for a machine with these GPUs; "" without any.

    Presets of a card of that name come first, and of those the one with as many. Another card takes a preset whose card has bfloat16
    if it has, without if not, and of those the nearest in memory.
    """
    if not cards:
        return ""
    card, n = min(cards, key=lambda c: c.memory_gib), len(cards)

    def distance(device: DeviceConfig) -> tuple[bool, bool, float, float]:
        named = re.search(rf"\b{re.escape(device.card)}\b", card.name, re.IGNORECASE) is not None
        alike = (card.capability >= BFLOAT16) == (device.capability >= BFLOAT16)
        memory = abs(math.log(max(card.memory_gib, 1e-3) / device.memory_gib))
        number = abs(math.log(n / device.count))
        return (not named, not alike, number, memory) if named else (True, not alike, memory, number)

    return min(card_presets(), key=lambda name: distance(card_presets()[name]))
