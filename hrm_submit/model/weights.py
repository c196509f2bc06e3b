"""Checkpoints: weights, task-embedding tables and where they come from, in safetensors.

- A checkpoint is one `.safetensors` file, or a folder of parts that each stay below a size (a table may be cut across parts).
- Names: `model.*` for the HRM, `embedding.mean_row` always, `embedding.dihedral_rows` in the shared scheme, `embedding.rows`
  only where asked. The metadata is a map of strings whose values are JSON.
- Loading checks everything before a model is built: format, configuration, names, shapes, finite values.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrm_submit.config.preset_files import from_dict, without_retired
from hrm_submit.config.runtime import Runtime
from hrm_submit.config.schema import Kernels, ModelConfig
from hrm_submit.core.errors import CheckpointError, ConfigError, clipped
from hrm_submit.model.embedding import DIHEDRAL_ROWS, TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.layers import AttentionKind
from hrm_submit.model.parts import CUT, digest, divide, first_part, join, label
from hrm_submit.model.tensorfile import read_metadata, read_tensors, write_tensors
from hrm_submit.version import __version__

FORMAT = "hrm-submit checkpoint 1"
_MODEL, _TABLES = "model.", "embedding."


@dataclass(frozen=True)
class CheckpointMeta:
    """Where weights come from: names of the data, training `steps` (segments) and `seconds`, canonical-form hashes of every
    training pair (to detect leaks), the preset that trained them (its `[ttt]` and `[vote]` are `solve`'s default), a `card`
    for people (machine, command, figures measured), version of the package that wrote them, and of which task each row is
    where rows were kept."""

    data: tuple[str, ...] = ()
    steps: int = 0
    seconds: float = 0.0
    hashes: tuple[str, ...] = ()
    preset: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__
    row_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class EmbeddingTables:
    """`mean_row` (D,), `dihedral_rows` (8, D) in the shared scheme, `rows` (R, D) where every task's row was kept."""

    mean_row: Tensor
    dihedral_rows: Tensor | None = None
    rows: Tensor | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a model can be rebuilt from."""

    config: ModelConfig
    state: Mapping[str, Tensor]
    tables: EmbeddingTables
    meta: CheckpointMeta = field(default_factory=CheckpointMeta)


def snapshot(model: HRM, embedding: TaskEmbedding, meta: CheckpointMeta, *, keep_rows: bool = False) -> Checkpoint:
    """A checkpoint of `model` and `embedding` as they are; it shares their memory, so save it before training continues."""
    rows = embedding.rows if keep_rows else None
    tables = EmbeddingTables(embedding.mean_row(), embedding.dihedral_rows, rows)
    return Checkpoint(model.cfg, model.state_dict(), tables, meta)


def build(
    source: Checkpoint | ModelConfig,
    *,
    n_rows: int | None = 1,
    dtype: torch.dtype = torch.float32,
    attention: AttentionKind = "sdpa",
    kernels: Kernels = "torch",
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[HRM, TaskEmbedding]:
    """A model and its task embedding, from a checkpoint or fresh from `seed`.

    The embedding has `n_rows` rows, all equal to the checkpoint's mean row (zero in a fresh model); None: the checkpoint's
    own rows. Raises CheckpointError where it has none.
    """
    config = source.config if isinstance(source, Checkpoint) else source
    generator = torch.Generator().manual_seed(seed)
    model = HRM(config, dtype=dtype, attention=attention, kernels=kernels, generator=generator, initialise=config is source)
    if not isinstance(source, Checkpoint):
        if n_rows is None:
            raise CheckpointError("a fresh model has no task rows of its own")
        return model.to(device), TaskEmbedding(config, n_rows).to(device)
    model.load_state_dict(source.state)
    tables = source.tables
    rows = tables.rows if n_rows is None else tables.mean_row.expand(n_rows, -1)
    if rows is None:
        raise CheckpointError("the checkpoint holds no task rows, only their mean")
    embedding = TaskEmbedding(config, len(rows))
    embedding.rows.copy_(rows)
    if embedding.dihedral_rows is not None and tables.dihedral_rows is not None:
        embedding.dihedral_rows.copy_(tables.dihedral_rows)
    return model.to(device), embedding.to(device)


def build_on(runtime: Runtime, source: Checkpoint | ModelConfig, *, n_rows: int | None = 1, seed: int = 0) -> tuple[HRM, TaskEmbedding]:
    """`build` on the device of `runtime`, with its number format, attention and kernels."""
    dtype: torch.dtype = getattr(torch, runtime.dtype)
    how = {"attention": runtime.attention, "kernels": runtime.kernels}
    return build(source, n_rows=n_rows, dtype=dtype, seed=seed, device=runtime.device, **how)  # type: ignore[arg-type]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write one file, atomically. Raises CheckpointError."""
    write_tensors(path, _tensors(checkpoint), _metadata(checkpoint))


def save_parts(folder: Path, checkpoint: Checkpoint, max_bytes: int) -> list[Path]:
    """Write `part-001.safetensors` ... into `folder`, each with at most `max_bytes` of tensors, in place of older parts.

    Those stay until all new ones are whole. Returns the parts. Raises CheckpointError, also where a single row is larger
    than a part.
    """
    tensors, metadata = _tensors(checkpoint), _metadata(checkpoint)
    parts, name = divide(tensors, max_bytes), digest(tensors, metadata)
    fresh = folder / ".new"
    names = [f"part-{number:03d}.safetensors" for number in range(1, len(parts) + 1)]
    try:
        fresh.mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(parts, 1):
            about = metadata if number == 1 else {"format": FORMAT}
            write_tensors(fresh / names[number - 1], part, about | label(number, len(parts), name))
        for old in folder.glob("*.safetensors"):
            old.unlink()
        for part_name in names:
            (fresh / part_name).replace(folder / part_name)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return [folder / part_name for part_name in names]


def load_checkpoint(path: Path, *, rows: bool = False) -> Checkpoint:
    """Read a file or a folder of parts; `rows` also reads the table of task rows, where it was kept.

    Raises CheckpointError, one line, for anything missing, truncated, of another shape or not finite.
    """
    files, config, meta = _headers(path)
    pieces: dict[str, Tensor] = {}
    for file in files:
        pieces |= read_tensors(file, lambda name: rows or name.partition(CUT)[0] != f"{_TABLES}rows")
    tensors = join(str(path), pieces)
    state = {name.removeprefix(_MODEL): tensor for name, tensor in tensors.items() if name.startswith(_MODEL)}
    check_state(state, config, str(path))
    return Checkpoint(config, state, _tables(tensors, config, str(path)), meta)


def read_meta(path: Path) -> CheckpointMeta:
    """Where the weights of a file or folder of parts come from, without reading them. Raises CheckpointError."""
    return _headers(path)[2]


def _headers(path: Path) -> tuple[list[Path], ModelConfig, CheckpointMeta]:
    files = _files(path)
    metadata = {file: read_metadata(file) for file in files}
    for file, about in metadata.items():
        if about.get("format") != FORMAT:
            raise CheckpointError(f"{file}: not an hrm-submit checkpoint (a published one needs import-checkpoint first)")
    first = first_part(str(path), metadata)
    return files, *_parse(first, metadata[first])


def check_state(state: Mapping[str, Tensor], config: ModelConfig, source: str) -> None:
    """Raise CheckpointError naming `source` unless `state` is exactly a model of `config`: names, shapes, finite values."""
    layers, widest = config.H_layers + config.L_layers, max((n for t in state.values() for n in t.shape), default=0)
    sizes = max(config.hidden_size, config.vocab_size, config.conv_size, config.seq_len if config.pos_encodings == "learned" else 0)
    if layers > len(state):
        raise CheckpointError(f"{source}: its config asks for {layers} layers, and there are {len(state)} tensors")
    if sizes > widest:
        raise CheckpointError(f"{source}: its config asks for sizes up to {sizes}, and the largest of its tensors is {widest}")
    try:
        # Memory that nothing writes to is never taken; torch's meta device would cost a second of imports.
        expected = {name: tuple(tensor.shape) for name, tensor in HRM(config, initialise=False).state_dict().items()}
    except (RuntimeError, MemoryError):
        raise CheckpointError(f"{source}: its config asks for more memory than there is") from None
    _check(state, expected, source)


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], source: str, prefix: str = "") -> None:
    for name, shape in expected.items():
        fault = None
        if name not in tensors:
            fault = "is missing"
        elif tuple(tensors[name].shape) != shape:
            fault = f"has shape {tuple(tensors[name].shape)}, its config asks for {shape}"
        elif not tensors[name].isfinite().all():
            fault = "has values that are not finite"
        if fault:
            raise CheckpointError(f"{source}: tensor {prefix + name!r} {fault}")
    for name in tensors:
        if name not in expected:
            raise CheckpointError(f"{source}: tensor {prefix + name!r} belongs to no model of its config")


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    named = {f"{_MODEL}{name}": tensor for name, tensor in checkpoint.state.items()}
    tables = ((f.name, getattr(checkpoint.tables, f.name)) for f in dataclasses.fields(EmbeddingTables))
    return named | {f"{_TABLES}{name}": tensor for name, tensor in tables if tensor is not None}


def _tables(tensors: Mapping[str, Tensor], config: ModelConfig, source: str) -> EmbeddingTables:
    width = config.puzzle_emb_ndim
    found = {name.removeprefix(_TABLES): tensor for name, tensor in tensors.items() if name.startswith(_TABLES)}
    shapes: dict[str, tuple[int, ...]] = {"mean_row": (width,)}
    if config.embedding == "shared":
        shapes["dihedral_rows"] = (DIHEDRAL_ROWS, width)
    if "rows" in found:
        shapes["rows"] = (*found["rows"].shape[:1], width)
    _check(found, shapes, source, prefix=_TABLES)
    return EmbeddingTables(**found)


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    about = dataclasses.asdict(checkpoint.meta)
    about |= {"config": dataclasses.asdict(checkpoint.config), "embedding": checkpoint.config.embedding}
    return {"format": FORMAT} | {key: json.dumps(value) for key, value in about.items()}


def _parse(file: Path, metadata: Mapping[str, str]) -> tuple[ModelConfig, CheckpointMeta]:
    try:
        values: dict[str, Any] = {key: json.loads(text) for key, text in metadata.items() if key not in ("format", "digest")}
        config = from_dict(ModelConfig, without_retired("model", values["config"]), where=f"{file}: config")
        meta = CheckpointMeta(
            data=_texts(values, "data"),
            steps=_number(values, "steps", int),
            seconds=float(_number(values, "seconds", (int, float))),
            hashes=_texts(values, "hashes"),
            preset=_of(values, "preset", str),
            card=_of(values, "card", dict),
            version=_of(values, "version", str),
            row_ids=_texts({"row_ids": [], **values}, "row_ids"),
        )
    except ConfigError as error:
        told = str(error)
        raise CheckpointError(told if str(file) in told else f"{file}: {told}") from None
    except KeyError as error:
        raise CheckpointError(f"{file}: its metadata lacks {error}") from None
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{file}: its metadata cannot be read: {clipped(error, 150)}") from None
    if _release(meta.version) > _release(__version__):
        raise CheckpointError(f"{file}: was written by hrm-submit {clipped(meta.version, 40)}, which is newer than this {__version__}")
    return config, meta


def _of(values: Mapping[str, Any], key: str, kind: Any) -> Any:
    if not isinstance(values[key], kind) or isinstance(values[key], bool):
        raise ValueError(f"{key} = {clipped(repr(values[key]), 60)}")
    return values[key]


def _number(values: Mapping[str, Any], key: str, kind: Any) -> Any:
    if not 0 <= _of(values, key, kind) < 1e15:
        raise ValueError(f"{key} = {clipped(values[key], 60)}")
    return values[key]


def _texts(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    if not all(isinstance(text, str) for text in _of(values, key, list)):
        raise ValueError(f"{key} holds something else than texts")
    return tuple(values[key])


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, to compare."""
    return tuple(int(part) for part in re.findall(r"\d{1,9}", version)[:3])


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
    except (OSError, ValueError) as error:  # too long a name, or a null byte in it
        raise CheckpointError(f"{path}: cannot be a path: {getattr(error, 'strerror', None) or error}") from None
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{path}: holds no .safetensors file")
    return files
