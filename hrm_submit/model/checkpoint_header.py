"""What a checkpoint says of itself, checked without reading its weights and without torch.

- A checkpoint is one `.safetensors` file whose metadata is a map of strings with JSON values.
- Names: `model.*` for the HRM, `embedding.mean_row` always, `embedding.dihedral_rows` in the shared scheme, `embedding.rows`
  only where asked.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError, safe_open

from hrm_submit.config.preset_files import from_dict
from hrm_submit.config.schema import ModelConfig, feed_forward_width
from hrm_submit.core.errors import CheckpointError, ConfigError, clipped
from hrm_submit.core.files import check_regular
from hrm_submit.version import __version__

FORMAT = "hrm-submit checkpoint 1"
MODEL, TABLES = "model.", "embedding."
DIHEDRAL_ROWS = 8
Shape: TypeAlias = tuple[int, ...]
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
        check_regular(path)
        with safe_open(path, framework="numpy") as file:
            about, slices = file.metadata() or {}, {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            formats = {part.get_dtype() for part in slices.values()}
    except (OSError, ValueError, SafetensorError) as error:
        raise unreadable(path, error) from None
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not an hrm-submit checkpoint (a published one needs import-checkpoint first)")
    config, meta = _parse(path, about)
    check_shapes(shapes, _named(config, shapes), str(path))
    if unread := formats - {"F64", "F32", "F16", "BF16"}:
        raise CheckpointError(f"{path}: has tensors in the number format {min(unread)}, which is not read")
    return config, meta


def model_shapes(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    """Name and shape of each tensor in the state of an HRM of `config`."""
    width, inner = config.hidden_size, feed_forward_width(config.hidden_size, config.expansion)
    places = config.patch**2
    tables = {"tokens": (places * config.vocab_size, width), "lm_head": (places * config.vocab_size, width)}
    yield from {**tables, "q_weight": (2, width), "q_bias": (2,), "H_init": (width,), "L_init": (width,)}.items()
    if config.codes:
        yield "codes", (places * config.n_codes, width)
    if config.pos_encodings == "learned":
        yield "positions", (config.puzzle_emb_len + config.seq_len, width)
    for level, layers, mixer in (("H", config.H_layers, config.H_mixer), ("L", config.L_layers, config.L_mixer)):
        block: dict[str, Shape] = {"gate_up": (2 * inner, width), "down": (width, inner)}
        if mixer != "none":
            block |= {"qkv": (3 * width, width), "out": (width, width)}
        if config.conv_size:
            block |= {"conv": (inner, 1, config.conv_size, config.conv_size)}
        for number in range(layers):
            yield from ((f"{level}_level.blocks.{number}.{name}", shape) for name, shape in block.items())


def check_shapes(found: Mapping[str, Shape], expected: Iterable[tuple[str, Shape]], source: str) -> None:
    """Raise CheckpointError, naming `source`, unless `found` are exactly the `expected` names and shapes."""
    left = dict(found)
    for name, shape in expected:  # ends at the first fault, however many layers a damaged config asks for
        if left.pop(name, None) != shape:
            told = f"has shape {found[name]}" if name in found else "is missing"
            raise CheckpointError(f"{source}: tensor {name!r} {told}, its config asks for {shape}")
    for name in left:
        raise CheckpointError(f"{source}: tensor {clipped(repr(name), 80)} belongs to no model of its config")


def _named(config: ModelConfig, found: Mapping[str, Shape]) -> Iterator[tuple[str, Shape]]:
    yield from ((f"{MODEL}{name}", shape) for name, shape in model_shapes(config))
    yield f"{TABLES}mean_row", (config.puzzle_emb_ndim,)
    if config.embedding == "shared":
        yield f"{TABLES}dihedral_rows", (DIHEDRAL_ROWS, config.puzzle_emb_ndim)
    if rows := found.get(f"{TABLES}rows"):
        yield f"{TABLES}rows", (rows[0], config.puzzle_emb_ndim)


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The one line for a file that safetensors refused with `error`."""
    if isinstance(error, FileNotFoundError):
        return CheckpointError(f"{path}: no such file")
    return CheckpointError(f"{path}: not a whole safetensors file: {clipped(getattr(error, 'strerror', None) or error, 150)}")


def _parse(path: Path, about: Mapping[str, str]) -> tuple[ModelConfig, CheckpointMeta]:
    try:
        values: dict[str, Any] = {key: json.loads(about[key]) for key in _METADATA if key in about or key != "row_ids"}
        config = from_dict(ModelConfig, values.pop("config"))
        meta = from_dict(CheckpointMeta, values, where="metadata")
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{path}: its metadata cannot be read: {clipped(repr(error), 150)}") from None
    if _release(meta.version) > _release(__version__):
        raise CheckpointError(f"{path}: was written by hrm-submit {clipped(meta.version, 40)}, which is newer than this {__version__}")
    return config, meta


_METADATA = ("config", *(f.name for f in fields(CheckpointMeta)))


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, to compare."""
    return tuple(int(part) for part in re.findall(r"\d{1,9}", version)[:3])
