"""A competition as data: slug, hours, machine and file names, from `competitions/SLUG.toml` beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hrm_submit.config.preset_files import read_toml
from hrm_submit.core.errors import ConfigError, clipped

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


KEYS: Mapping[str, type | tuple[type, ...]] = {
    "slug": str,
    "title": str,
    "hours": (int, float),
    "hidden_tasks": int,
    "machine_shape": str,
    "cards": int,
    "checkpoint": str,
    "files": dict,
}


def load_competition(slug: str = DEFAULT, folder: Path = COMPETITIONS) -> Competition:
    """Read `folder/SLUG.toml`, or the TOML file that `slug` names. Raises ConfigError."""
    path = Path(slug) if slug.endswith(".toml") else folder / f"{slug}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise ConfigError(f"unknown competition {slug!r}; known: {known}, or a TOML file")
    values = read_toml(path)
    for name, kind in KEYS.items():
        if name not in values:
            raise ConfigError(f"{path.name}: no {name}")
        if not isinstance(values[name], kind) or isinstance(values[name], bool):
            raise ConfigError(f"{path.name}: {name} = {clipped(repr(values[name]), 60)} is of another type")
    if not all(isinstance(file, str) for file in values["files"].values()):
        raise ConfigError(f"{path.name}: [files] should hold names of files")
    return Competition(**{name: values[name] for name in KEYS})
