"""Checkpoints: weights and task-embedding tables in one safetensors file, and models built from them.

`checkpoint_header` checks configuration, names and shapes; loading checks that values are finite.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hrm_submit.config.runtime import Runtime
from hrm_submit.config.schema import ModelConfig
from hrm_submit.core.errors import CheckpointError
from hrm_submit.core.files import write_atomic
from hrm_submit.model.checkpoint_header import FORMAT, MODEL, TABLES, check_shapes, model_shapes, read_header, unreadable
from hrm_submit.model.checkpoint_header import CheckpointMeta as CheckpointMeta
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM

PLAIN = Runtime("cpu", "float32", "sdpa", "torch", "plain", 1)


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a model can be rebuilt from. Of the task embedding: `mean_row` (D,), `dihedral_rows` (8, D) in the shared scheme,
    `rows` (R, D) where every task's row was kept."""

    config: ModelConfig
    state: Mapping[str, Tensor]
    mean_row: Tensor
    dihedral_rows: Tensor | None = None
    rows: Tensor | None = None
    meta: CheckpointMeta = field(default_factory=CheckpointMeta)


def snapshot(model: HRM, embedding: TaskEmbedding, meta: CheckpointMeta) -> Checkpoint:
    """A checkpoint of `model` and `embedding` as they are, with the task rows if `meta` names their tasks; it shares their memory, so save
    it before training continues."""
    rows = embedding.rows if meta.row_ids else None
    return Checkpoint(model.cfg, model.state_dict(), embedding.mean_row(), embedding.dihedral_rows, rows, meta)


def build(source: Checkpoint | ModelConfig, runtime: Runtime = PLAIN, *, n_rows: int = 1, seed: int = 0) -> tuple[HRM, TaskEmbedding]:
    """A model and its task embedding, as `runtime` says, from a checkpoint or fresh from `seed`.

    The embedding has `n_rows` rows, all equal to the checkpoint's mean row (zero in a fresh model).
    """
    config = source.config if isinstance(source, Checkpoint) else source
    model = HRM(
        config,
        dtype=getattr(torch, runtime.dtype),
        attention=runtime.attention,
        kernels=runtime.kernels,
        generator=torch.Generator().manual_seed(seed),
        initialise=config is source,
    )
    embedding = TaskEmbedding(config, n_rows)
    if isinstance(source, Checkpoint):
        model.load_state_dict(source.state)
        embedding.rows.copy_(source.mean_row)
        if embedding.dihedral_rows is not None and source.dihedral_rows is not None:
            embedding.dihedral_rows.copy_(source.dihedral_rows)
    return model.to(runtime.device), embedding.to(runtime.device)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace `path` by a file of `checkpoint`. Raises CheckpointError where that fails; the old file then stays."""
    tensors = {f"{MODEL}{name}": tensor for name, tensor in checkpoint.state.items()}
    tables = {"mean_row": checkpoint.mean_row, "dihedral_rows": checkpoint.dihedral_rows, "rows": checkpoint.rows}
    tensors |= {f"{TABLES}{name}": tensor for name, tensor in tables.items() if tensor is not None}
    about = dataclasses.asdict(checkpoint.meta)
    about |= {"config": dataclasses.asdict(checkpoint.config), "embedding": checkpoint.config.embedding}
    metadata = {"format": FORMAT} | {key: json.dumps(value) for key, value in about.items()}
    try:
        write_atomic(path, save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, metadata))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from None


def load_checkpoint(path: Path, *, rows: bool = False) -> Checkpoint:
    """Read a checkpoint; `rows` also reads the table of task rows, where it was kept.

    Raises CheckpointError, one line, for anything missing, truncated, of another shape or not finite.
    """
    config, meta = read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys() if rows or name != f"{TABLES}rows"}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from None
    _check_finite(tensors, str(path))
    state = {name.removeprefix(MODEL): tensor for name, tensor in tensors.items() if name.startswith(MODEL)}
    tables = {name.removeprefix(TABLES): tensor for name, tensor in tensors.items() if name.startswith(TABLES)}
    return Checkpoint(config, state, **tables, meta=meta)


def check_state(state: Mapping[str, Tensor], config: ModelConfig, source: str) -> None:
    """Raise CheckpointError naming `source` unless `state` is exactly a model of `config`: names, shapes, finite values."""
    check_shapes({name: tuple(tensor.shape) for name, tensor in state.items()}, model_shapes(config), source)
    _check_finite(state, source)


def _check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{source}: tensor {name!r} has values that are not finite")
