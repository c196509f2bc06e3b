"""A competition as data: slug, hours, machine and file names, from `competitions/SLUG.toml` beside it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hrm_submit.core.errors import ConfigError

from .places import COMPETITIONS

DEFAULT = "arc-prize-2026-arc-agi-2"


@dataclass(frozen=True)
class Competition:
    """What the kit needs to know of a competition.

    `cards` are the GPUs of its machine, `checkpoint` is the path of the weights to ship, from the root of the repository, `files` maps a
    role such as `test_challenges` to a file name.
    """

    slug: str
    title: str
    hours: float
    hidden_tasks: int
    machine_shape: str
    cards: int
    checkpoint: str
    files: Mapping[str, str]


def load_competition(slug: str = DEFAULT, folder: Path = COMPETITIONS) -> Competition:
    """Read `folder/SLUG.toml`. Raises ConfigError."""
    path = folder / f"{slug}.toml"
    if not path.is_file():
        raise ConfigError(f"unknown competition {slug!r}; known: {', '.join(sorted(p.stem for p in folder.glob('*.toml')))}")
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        return Competition(**{name: values[name] for name in Competition.__dataclass_fields__})
    except KeyError as missing:
        raise ConfigError(f"{path.name}: no {missing.args[0]}") from None
