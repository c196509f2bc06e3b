"""Import of published checkpoints, made here by the independent reference under their names."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hrm_submit.core.errors import CheckpointError
from hrm_submit.model.published import import_published
from hrm_submit.model.weights import build, load_checkpoint
from tests.model.reference import DEFAULTS, PREFIX, Recorder, random_state, segment

NESTED = """
arch:
  name: hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1
  loss: {loss_type: stablemax_cross_entropy, name: losses@ACTLossHead}
  hidden_size: 16
  num_heads: 2
  expansion: 4
  H_layers: 1
  L_layers: 1
  H_cycles: 2
  L_cycles: 2
  pos_encodings: rope
  puzzle_emb_ndim: 16
  halt_max_steps: 3
  halt_exploration_prob: 0.1
lr: 0.0001
"""


def write(folder: Path, config: str | dict[str, Any] = NESTED, prefix: str = PREFIX, **changes: Any) -> tuple[Path, Path]:
    state = random_state({**DEFAULTS, **changes}, seed=0)
    torch.save({prefix + name: tensor for name, tensor in state.items()}, folder / "step_100")
    (folder / "all_config.yaml").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder / "step_100", folder / "all_config.yaml"


@pytest.mark.parametrize("prefix", [PREFIX, "model.inner.", ""])
def test_a_nested_yaml_config_and_any_prefix(tmp_path: Path, prefix: str) -> None:
    pytest.importorskip("yaml")
    import_published(*write(tmp_path, prefix=prefix), tmp_path / "out.safetensors")
    loaded = load_checkpoint(tmp_path / "out.safetensors", rows=True)
    cfg = loaded.config
    assert (cfg.vocab_size, cfg.seq_len, cfg.halt_max_steps, cfg.halt_exploration_prob) == (12, 900, 3, 0.1)
    assert cfg.embedding == "augmented" and cfg.gradient == "last" and cfg.continue_target
    assert loaded.tables.rows is None and loaded.meta.data == ("published:step_100",)


@pytest.mark.parametrize("changes", [{}, {"pos_encodings": "learned", "puzzle_emb_ndim": 20}, {"puzzle_emb_ndim": 0}])
def test_the_imported_model_computes_what_the_published_one_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    cfg = {**DEFAULTS, **changes}
    import_published(*write(tmp_path, cfg, **changes), tmp_path / "out.safetensors", keep_rows=True)
    model, embedding = build(load_checkpoint(tmp_path / "out.safetensors", rows=True), n_rows=None if cfg["puzzle_emb_ndim"] else 1)
    reference = Recorder(0, **changes)
    sequence = reference.fresh(reference.batch("x"), 1)
    ids = sequence["id"].reshape(1)
    row = embedding.lookup(ids, ids) if cfg["puzzle_emb_ndim"] else None
    carry = model.initial_carry(1, cfg["seq_len"])
    with torch.no_grad():
        _, logits, q_halt, q_continue = model(carry, sequence["inputs"][None], row, torch.arange(cfg["seq_len"]))
        expected_row = reference.state["puzzle_emb.weights"][sequence["id"]] if row is not None else None
        _, _, expected, q = segment(reference.cfg, reference.state, sequence["z_h"], sequence["z_l"], sequence["inputs"], expected_row)
    torch.testing.assert_close(logits[0], expected.float(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat((q_halt, q_continue)), q.float(), atol=1e-4, rtol=1e-4)


def test_the_sequence_length_of_learned_positions_is_read_off_the_table(tmp_path: Path) -> None:
    config = {k: v for k, v in DEFAULTS.items() if k not in ("seq_len", "vocab_size")} | {"pos_encodings": "learned"}
    checkpoint = import_published(*write(tmp_path, config, pos_encodings="learned"), tmp_path / "out.safetensors")
    assert checkpoint.config.seq_len == DEFAULTS["seq_len"]


def test_only_the_mean_row_is_kept_unless_rows_are_asked_for(tmp_path: Path) -> None:
    weights, config = write(tmp_path, {**DEFAULTS, "num_puzzle_identifiers": 1000}, num_puzzle_identifiers=1000)
    state = torch.load(weights)
    table = state[f"{PREFIX}puzzle_emb.weights"]
    torch.save(state | {f"{PREFIX}H_init": state[f"{PREFIX}H_init"].bfloat16()}, weights)
    import_published(weights, config, tmp_path / "mean.safetensors")
    import_published(weights, config, tmp_path / "rows.safetensors", keep_rows=True)
    loaded = [load_checkpoint(tmp_path / f"{name}.safetensors", rows=True) for name in ("mean", "rows")]
    assert loaded[0].state["H_init"].dtype == torch.float32, "whatever the format of the published tensor"
    mean, rows = (checkpoint.tables for checkpoint in loaded)
    assert mean.rows is None and rows.rows is not None and torch.equal(rows.rows, table)
    for tables in (mean, rows):
        torch.testing.assert_close(tables.mean_row, table.mean(0))
    assert (tmp_path / "rows.safetensors").stat().st_size - (tmp_path / "mean.safetensors").stat().st_size >= 64_000


@pytest.mark.parametrize("nested", [True, False])
def test_a_key_that_may_change_the_model_is_refused_by_name(tmp_path: Path, nested: bool) -> None:
    def config(**keys: Any) -> dict[str, Any]:
        arch, training = {**DEFAULTS, "name": "hrm", **keys}, {"lr": 1e-4, "epochs": 100}
        return {"arch": arch, "project_of_mine": "a", **training} if nested else {**arch, **training}

    import_published(*write(tmp_path, config()), tmp_path / "out.safetensors")
    with pytest.raises(CheckpointError, match=r"all_config.yaml: not known, .*: extra_gate, residual_connections; remove"):
        import_published(*write(tmp_path, config(residual_connections=True, extra_gate=1)), tmp_path / "other.safetensors")


def test_weights_beside_optimizers_in_a_folder_of_a_hub_are_found_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights, config = write(tmp_path, dict(DEFAULTS))
    expected = {name: tensor.clone() for name, tensor in import_published(weights, config, tmp_path / "out.safetensors").state.items()}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
    torch.save({"step": 100, "optimizers": [optimizer], "model": torch.load(weights), "ema": torch.load(weights)}, weights)
    with caplog.at_level("INFO"):
        found = import_published(tmp_path, config, tmp_path / "out.safetensors").state
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items()) and found.keys() == expected.keys()
    assert caplog.messages == [f"{tmp_path}: took step_100", f"{weights}: took the tensors of its entry 'model', not of ['ema']"]
    (tmp_path / "step_200").write_bytes(weights.read_bytes())
    with pytest.raises(CheckpointError, match=r"holds 2 files that torch wrote \(step_100, step_200\): name the file of the weights"):
        import_published(tmp_path, config, tmp_path / "out.safetensors")


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    monkeypatch.chdir(tmp_path)
    weights, config = write(tmp_path, dict(DEFAULTS))
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
    "list": tensors(lambda state: list(state.values())),
    "missing": tensors(lambda state: state.pop(f"{PREFIX}q_head.bias") is None),
    "unknown": tensors(lambda state: state.update({f"{PREFIX}H_level.layers.0.mlp.other_proj.weight": torch.zeros(2)})),
    "shape": tensors(lambda state: state.update({f"{PREFIX}lm_head.weight": torch.zeros(12, 8)})),
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
    weights, config = write(tmp_path, dict(DEFAULTS))
    FAULTS[fault](weights, config)
    with pytest.raises(CheckpointError) as error:
        import_published(weights, config, tmp_path / "out.safetensors")
    named = config if fault.startswith("config") else weights
    assert str(error.value).startswith(str(named)) and "\n" not in str(error.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_yaml_without_pyyaml_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(CheckpointError, match="PyYAML is not installed"):
        import_published(*write(tmp_path), tmp_path / "out.safetensors")


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from hrm_submit.model.published import import_published
torch.set_num_threads(1)
torch.zeros(1000).sum(dtype=torch.float64)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
import_published(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[1] + ".safetensors"), keep_rows=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited through Linux's /proc")
def test_a_large_table_is_never_held_twice(tmp_path: Path) -> None:
    rows = 1_500_000
    weights, config = write(tmp_path, {**DEFAULTS, "num_puzzle_identifiers": rows}, num_puzzle_identifiers=rows)
    size = weights.stat().st_size
    command = [sys.executable, "-c", LIMITED, str(weights), str(config)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    enough = subprocess.run([*command, str(int(size + 70_000_000))], env=environment, capture_output=True, text=True, check=False)
    assert enough.returncode == 0, enough.stderr
    written = load_checkpoint(Path(f"{weights}.safetensors"), rows=True).tables
    assert written.rows is not None and len(written.rows) == rows
    # the limit bites: without room for even one mapping of the file, the import fails
    short = subprocess.run([*command, str(size // 2)], env=environment, capture_output=True, text=True, check=False)
    assert short.returncode != 0
