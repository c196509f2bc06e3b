"""Import of published checkpoints, made here of the recordings of the published implementation."""

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrm_submit.core.errors import CheckpointError
from hrm_submit.model.published import import_published
from hrm_submit.model.weights import build, load_checkpoint
from tests.model.test_parity import DATA, PREFIX


def recorded(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A recording's arrays, and its configuration."""
    arrays = dict(np.load(DATA / f"recorded_{name}.npz"))
    return arrays, json.loads(bytes(arrays["config"]))


DEFAULTS = recorded("rope")[1]


def write(folder: Path, config: str | dict[str, Any] = DEFAULTS, prefix: str = PREFIX, name: str = "rope") -> tuple[Path, Path]:
    state = {k.removeprefix("state/"): torch.from_numpy(v) for k, v in recorded(name)[0].items() if k.startswith("state/")}
    torch.save({prefix + key.removeprefix(PREFIX): tensor for key, tensor in state.items()}, folder / "step_100")
    (folder / "all_config.yaml").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder / "step_100", folder / "all_config.yaml"


@pytest.mark.parametrize("prefix", [PREFIX, "model.inner.", ""])
def test_a_nested_yaml_config_that_leaves_out_sizes_and_any_prefix(tmp_path: Path, prefix: str) -> None:
    arch = {key: value for key, value in DEFAULTS.items() if key not in ("vocab_size", "seq_len", "loss_type")}
    arch |= {"name": "hrm@V1", "loss": {"loss_type": "stablemax_cross_entropy", "name": "losses@Head"}, "halt_exploration_prob": 0.1}
    text = pytest.importorskip("yaml").safe_dump({"arch": arch, "lr": 1e-4})
    import_published(*write(tmp_path, text, prefix), tmp_path / "out.safetensors")
    loaded = load_checkpoint(tmp_path / "out.safetensors", rows=True)
    cfg = loaded.config
    assert (cfg.vocab_size, cfg.seq_len, cfg.halt_max_steps, cfg.halt_exploration_prob) == (12, 900, 3, 0.1)
    assert cfg.embedding == "augmented" and cfg.gradient == "last" and cfg.continue_target
    assert loaded.rows is None and loaded.meta.data == ("published:step_100",)


@pytest.mark.parametrize("name", ["rope", "learned"])
def test_the_imported_model_computes_what_the_published_one_does(tmp_path: Path, name: str) -> None:
    """Only the mean row is kept; where positions are learned, their number is read off the table."""
    arrays, config = recorded(name)
    length = config.pop("seq_len") if name == "learned" else config["seq_len"]
    import_published(*write(tmp_path, config, name=name), tmp_path / "out.safetensors")
    loaded = load_checkpoint(tmp_path / "out.safetensors", rows=True)
    table = torch.from_numpy(arrays[f"state/{PREFIX}puzzle_emb.weights"])
    torch.testing.assert_close(loaded.mean_row, table.mean(0))
    model, _ = build(loaded)
    tokens, ids = (torch.from_numpy(arrays[f"eval/{part}"]) for part in ("inputs", "puzzle_identifiers"))
    with torch.no_grad():
        _, logits, q_halt, _ = model(model.initial_carry(len(ids), length), tokens, table[ids.long()], torch.arange(length))
    torch.testing.assert_close(logits, torch.from_numpy(arrays["eval/step0/logits"]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(q_halt, torch.from_numpy(arrays["eval/step0/q_halt_logits"]), atol=1e-4, rtol=1e-4)


def test_a_key_that_may_change_the_model_is_refused_by_name(tmp_path: Path) -> None:
    def config(**keys: Any) -> dict[str, Any]:
        return {"arch": {**DEFAULTS, "name": "hrm", **keys}, "project_of_mine": "a", "lr": 1e-4, "epochs": 100}

    import_published(*write(tmp_path, config()), tmp_path / "out.safetensors")
    with pytest.raises(CheckpointError, match=r"all_config.yaml: not known, .*: extra_gate, residual_connections; remove"):
        import_published(*write(tmp_path, config(residual_connections=True, extra_gate=1)), tmp_path / "other.safetensors")


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    monkeypatch.chdir(tmp_path)
    weights, config = write(tmp_path)
    torch.save({**torch.load(weights), "extra": Trap()}, weights, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="not a torch file of tensors alone") as error:
        import_published(weights, config, tmp_path / "out.safetensors")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "sprung").exists() and not (tmp_path / "out.safetensors").exists()


def settings(**changes: Any) -> Callable[[Path, Path], object]:
    return lambda weights, config: config.write_text(json.dumps({k: v for k, v in (DEFAULTS | changes).items() if v is not None}))


def tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Path], object]:
    def apply(weights: Path, config: Path) -> None:
        state = torch.load(weights)
        torch.save(change(state) or state, weights)

    return apply


FAULTS: dict[str, Callable[[Path, Path], object]] = {
    "absent": lambda weights, config: weights.unlink(),
    "truncated": lambda weights, config: weights.write_bytes(weights.read_bytes()[:-2000]),
    "pickle": lambda weights, config: weights.write_bytes(pickle.dumps({"a": 1})),
    "a folder": lambda weights, config: (weights.unlink(), weights.mkdir()),
    "nested": tensors(lambda state: {"model": state}),
    "list": tensors(lambda state: list(state.values())),
    "missing": tensors(lambda state: state.pop(f"{PREFIX}q_head.bias") is None),
    "unknown": tensors(lambda state: state.update({f"{PREFIX}H_level.layers.0.mlp.other_proj.weight": torch.zeros(2)})),
    "shape": tensors(lambda state: state.update({f"{PREFIX}lm_head.weight": torch.zeros(12, 16)})),
    "not finite": tensors(lambda state: state.update({f"{PREFIX}q_head.bias": torch.full((2,), torch.nan)})),
    "table": tensors(lambda state: state.update({f"{PREFIX}puzzle_emb.weights": torch.zeros(5, 3)})),
    "config absent": lambda weights, config: config.unlink(),
    "config list": lambda weights, config: config.write_text("[1, 2]"),
    "config lacks": settings(num_heads=None),
    "config type": settings(puzzle_emb_ndim="${.hidden_size}"),
    "config of TRM": settings(H_layers=0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_one_line_that_names_it(tmp_path: Path, fault: str) -> None:
    weights, config = write(tmp_path)
    FAULTS[fault](weights, config)
    with pytest.raises(CheckpointError) as error:
        import_published(weights, config, tmp_path / "out.safetensors")
    named = config if fault.startswith("config") else weights
    assert str(error.value).startswith(str(named)) and "\n" not in str(error.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_yaml_without_pyyaml_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(CheckpointError, match="PyYAML is not installed"):
        import_published(*write(tmp_path, "arch: {}"), tmp_path / "out.safetensors")
