"""What a checkpoint says of itself, read without its weights and without torch.

A checkpoint is one `.safetensors` file whose metadata is a map of strings with JSON values.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hrm_submit.config.preset_files import from_dict, without_retired
from hrm_submit.config.schema import ModelConfig
from hrm_submit.core.errors import CheckpointError, ConfigError, clipped
from hrm_submit.version import __version__

FORMAT = "hrm-submit checkpoint 1"
MOST = 1e15
"""Upper bound of steps and seconds: more is a mistake."""


@dataclass(frozen=True)
class CheckpointMeta:
    """Where weights come from: names of the data, training `steps` (segments) and `seconds`, canonical-form hashes of every training pair
    (to detect leaks), the preset that trained them (its `[ttt]` and `[vote]` are `solve`'s default), a `card` for people (machine,
    command, figures measured), version of the package that wrote them, and the task of each kept row."""

    data: tuple[str, ...] = ()
    steps: int = 0
    seconds: float = 0.0
    hashes: tuple[str, ...] = ()
    preset: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__
    row_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (0 <= self.steps < MOST and 0 <= self.seconds < MOST):
            raise ConfigError(f"steps = {clipped(self.steps, 60)}, seconds = {clipped(self.seconds, 60)}: not within 0 .. {MOST:.0e}")


def read_header(path: Path) -> tuple[ModelConfig, CheckpointMeta]:
    """The model and the origin of the weights in `path`. Raises CheckpointError, one line."""
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
    except (OSError, ValueError, SafetensorError) as error:
        raise unreadable(path, error) from None
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not an hrm-submit checkpoint (a published one needs import-checkpoint first)")
    return _parse(path, about)


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The one line for a file that safetensors refused with `error`."""
    if isinstance(error, FileNotFoundError):
        return CheckpointError(f"{path}: no such file")
    return CheckpointError(f"{path}: not a whole safetensors file: {clipped(error, 150)}")


def _parse(path: Path, about: Mapping[str, str]) -> tuple[ModelConfig, CheckpointMeta]:
    known = {"row_ids": "[]"} | {key: about[key] for key in ("config", *typing.get_type_hints(CheckpointMeta)) if key in about}
    try:
        values: dict[str, Any] = {key: json.loads(text) for key, text in known.items()}
        config = from_dict(ModelConfig, without_retired("model", values.pop("config")), where=f"{path}: config")
        meta = CheckpointMeta(**{f.name: _value(f.name, values[f.name]) for f in fields(CheckpointMeta)})
    except ConfigError as error:
        raise CheckpointError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except KeyError as error:
        raise CheckpointError(f"{path}: its metadata lacks {error}") from None
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{path}: its metadata cannot be read: {clipped(error, 150)}") from None
    if _release(meta.version) > _release(__version__):
        raise CheckpointError(f"{path}: was written by hrm-submit {clipped(meta.version, 40)}, which is newer than this {__version__}")
    return config, meta


_KINDS: Mapping[str, type | tuple[type, ...]] = {"steps": int, "seconds": (int, float), "card": dict, "preset": str, "version": str}


def _value(key: str, value: Any) -> Any:
    """`value` as the field `key` has it: one of its kind, or a tuple of texts."""
    kind = _KINDS.get(key, list)
    texts = kind is not list or (isinstance(value, list) and all(isinstance(text, str) for text in value))
    if not isinstance(value, kind) or isinstance(value, bool) or not texts:
        raise ValueError(f"{key} = {clipped(repr(value), 60)}")
    return tuple(value) if kind is list else value


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, to compare."""
    return tuple(int(part) for part in re.findall(r"\d{1,9}", version)[:3])
