"""Import of checkpoints written by the published HRM code: a torch pickle and a YAML (or JSON) configuration.

- Unpickling is restricted to tensors, and the file is mapped, not read: the embedding table (one row per augmented task, so
  hundreds of thousands of rows) is walked through in chunks, and only its mean row is kept.
- Keys may or may not carry the prefixes of torch.compile and of the loss head (`_orig_mod.model.inner.`).
- Sizes that the configuration leaves to the data set (vocabulary, sequence length) are read off the tensors.
"""

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrm_submit.config.preset_files import from_dict
from hrm_submit.config.schema import ModelConfig
from hrm_submit.core.errors import CheckpointError, ConfigError, clipped, one_line
from hrm_submit.model.embedding import chunked_mean
from hrm_submit.model.weights import Checkpoint, CheckpointMeta, check_state, save_checkpoint

EMBEDDING_KEY = "puzzle_emb.weights"
"""Name of the embedding table, without prefixes."""

_NAMES = {
    "embed_tokens.embedding_weight": "tokens",
    "embed_pos.embedding_weight": "positions",
    "lm_head.weight": "lm_head",
    "q_head.weight": "q_weight",
    "q_head.bias": "q_bias",
    "H_init": "H_init",
    "L_init": "L_init",
}
_BLOCK = re.compile(r"([HL])_level\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)_proj\.weight")
_MATRICES = {"qkv": "qkv", "o": "out", "gate_up": "gate_up", "down": "down"}
_PREFIX = re.compile(r"(_orig_mod\.)?(model\.)?inner\.(_orig_mod\.)?")
_PUBLISHED_SEQ_LEN = 900
_NO_ARCHITECTURE = {"name", "loss", "batch_size", "num_puzzle_identifiers", "forward_dtype"}
"""Keys of published configurations that say nothing of the model."""


def inner_name(key: str) -> str:
    """A published key without the prefixes of its wrappers."""
    return _PREFIX.sub("", key, count=1)


def config_from_published(published: Mapping[str, Any], state: Mapping[str, Tensor], source: str) -> ModelConfig:
    """Our configuration from a published one (`arch:`, `arch.loss:`), or from its `arch` alone. `state` has keys from `inner_name`.

    Raises CheckpointError naming `source`, also for keys that might change the model unknown to us.
    """
    arch = published.get("arch", published)
    if not isinstance(arch, Mapping):
        raise CheckpointError(f"{source}: arch is not a table")
    loss = arch.get("loss", {})
    values = {**arch, **(loss if isinstance(loss, Mapping) else {})}
    known = {f.name for f in fields(ModelConfig)} - {"continue_target", "gradient", "embedding"}
    chosen = {key: value for key, value in values.items() if key in known}
    if arch.get("H_layers") == 0 or "trm" in str(arch.get("name", "")).lower():
        raise CheckpointError(f"{source}: of TRM (Tiny Recursive Model), which has one network for both levels: only HRM's are supported")
    if unknown := values.keys() - known - _NO_ARCHITECTURE:
        named = clipped(", ".join(sorted(map(str, unknown))), 150)
        raise CheckpointError(f"{source}: not known, and the model may depend on it: {named}; remove what changes nothing")
    missing = {"hidden_size", "num_heads", "expansion", "H_layers", "L_layers", "H_cycles", "L_cycles", "puzzle_emb_ndim"} - set(chosen)
    if missing:
        raise CheckpointError(f"{source}: the published config lacks {', '.join(sorted(missing))}")
    if "lm_head.weight" in state:
        chosen.setdefault("vocab_size", state["lm_head.weight"].shape[0])
    try:
        cfg = from_dict(ModelConfig, {"seq_len": _PUBLISHED_SEQ_LEN, **chosen})
        if "seq_len" not in chosen and "embed_pos.embedding_weight" in state:
            cfg = replace(cfg, seq_len=len(state["embed_pos.embedding_weight"]) - cfg.puzzle_emb_len)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from None
    return cfg


def state_from_published(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Our names and float32 for published tensors with keys from `inner_name`, without the embedding table.

    Raises CheckpointError naming `source` for an unknown key.
    """
    return {_our_name(name, source): tensor.float() for name, tensor in state.items()}


def import_published(weights: Path, config: Path, output: Path) -> Checkpoint:
    """Write `output` (.safetensors) from published `weights` and `config`; returns what it wrote. Raises CheckpointError."""
    state = {inner_name(key): tensor for key, tensor in _read_weights(weights).items()}
    table = state.pop(EMBEDDING_KEY, None)
    cfg = config_from_published(_read_config(config), state, str(config))
    model_state = state_from_published(state, str(weights))
    check_state(model_state, cfg, str(weights))
    if cfg.puzzle_emb_ndim and (table is None or table.ndim != 2 or table.shape[1] != cfg.puzzle_emb_ndim or not len(table)):
        raise CheckpointError(f"{weights}: {EMBEDDING_KEY} is not a table of rows of {cfg.puzzle_emb_ndim}")
    mean_row = torch.zeros(0) if table is None else chunked_mean(table)
    checkpoint = Checkpoint(cfg, model_state, mean_row, meta=CheckpointMeta(data=(f"published:{weights.name}",)))
    save_checkpoint(output, checkpoint)
    return checkpoint


def _our_name(name: str, source: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    match = _BLOCK.fullmatch(name)
    if match is None or match[3] not in _MATRICES:
        raise CheckpointError(f"{source}: {name!r} is no tensor of a published HRM")
    return f"{match[1]}_level.blocks.{match[2]}.{_MATRICES[match[3]]}"


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, OSError, EOFError, KeyError) as error:
        raise CheckpointError(f"{path}: not a torch file of tensors alone: {one_line(error)}") from None
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise CheckpointError(f"{path}: not a dictionary of named tensors")
    return state


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        try:
            config: object = json.loads(text)
        except ValueError:
            import yaml

            config = yaml.safe_load(text)
    except ImportError:
        raise CheckpointError(f"{path}: not JSON, and PyYAML is not installed to read it as YAML; convert it to JSON") from None
    except Exception as error:  # what yaml raises cannot be named where it is not installed
        raise CheckpointError(f"{path}: cannot be read as JSON or YAML: {clipped(error, 150)}") from None
    if not isinstance(config, Mapping):
        raise CheckpointError(f"{path}: not a table of settings")
    return config
