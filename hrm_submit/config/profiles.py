"""Which profile suits the GPUs of a machine: by their name and number, else by what they can do and how much they hold."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache

from hrm_submit.config.preset_files import load_preset, preset_names
from hrm_submit.config.schema import DeviceConfig
from hrm_submit.core.device import Card

BFLOAT16 = 8.0
"""CUDA capability from which cards compute in bfloat16: profiles on either side of it are not alike."""


@cache
def profiles() -> dict[str, DeviceConfig]:
    """The presets that stand for a machine with GPUs, by name."""
    devices = {name: load_preset(name).device for name in preset_names()}
    return {name: device for name, device in devices.items() if device.card}


def known_cards() -> set[str]:
    """Names of the GPUs that profiles stand for."""
    return {device.card for device in profiles().values()}


def profile_of(cards: Sequence[Card]) -> str:
    """Name of the profile that suits a machine with these GPUs; "" where it has none.

    A profile of a card of that name comes first, of those the one with as many. A card that no profile knows is likened to one with
    bfloat16 or without it as it has, and of those to the nearest in memory.
    """
    if not cards:
        return ""
    card, n = min(cards, key=lambda c: c.memory_gib), len(cards)

    def distance(profile: DeviceConfig) -> tuple[bool, bool, float, float]:
        named = re.search(rf"\b{re.escape(profile.card)}\b", card.name, re.IGNORECASE) is not None
        alike = (card.capability >= BFLOAT16) == (profile.capability >= BFLOAT16)
        memory = abs(math.log(max(card.memory_gib, 1e-3) / profile.memory_gib))
        number = abs(math.log(n / profile.count))
        return (not named, not alike, number, memory) if named else (True, not alike, memory, number)

    return min(profiles(), key=lambda name: distance(profiles()[name]))
