"""Checkpoints: written, read by others, read back, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hrm_submit.config.schema import ModelConfig
from hrm_submit.core.errors import CheckpointError
from hrm_submit.model.weights import Checkpoint, CheckpointMeta, build, load_checkpoint, save_checkpoint, save_parts, snapshot

CFG = ModelConfig(hidden_size=16, num_heads=2, H_layers=1, L_layers=1, seq_len=9, puzzle_emb_ndim=20, embedding="shared")
META = CheckpointMeta(data=("a", "b:demos"), steps=12, seconds=3.5, hashes=("00ff", "1234"))


def checkpoint(cfg: ModelConfig = CFG, keep_rows: bool = False, seed: int = 0) -> Checkpoint:
    model, embedding = build(cfg, n_rows=6, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    embedding.rows.normal_(generator=generator)
    if embedding.dihedral_rows is not None:
        embedding.dihedral_rows.normal_(generator=generator)
    return snapshot(model, embedding, META, keep_rows=keep_rows)


def assert_same(a: Checkpoint, b: Checkpoint) -> None:
    assert a.config == b.config and a.meta == b.meta
    assert a.state.keys() == b.state.keys()
    assert all(torch.equal(a.state[name], b.state[name]) for name in a.state)
    for name in ("mean_row", "dihedral_rows", "rows"):
        mine, theirs = getattr(a.tables, name), getattr(b.tables, name)
        assert (mine is None) == (theirs is None) and (mine is None or torch.equal(mine, theirs))


@pytest.mark.parametrize("keep_rows", [False, True])
@pytest.mark.parametrize("scheme", ["shared", "augmented"])
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_round_trip(tmp_path: Path, keep_rows: bool, scheme: str, positions: str) -> None:
    original = checkpoint(replace(CFG, embedding=scheme, pos_encodings=positions), keep_rows)  # type: ignore[arg-type]
    save_checkpoint(tmp_path / "c.safetensors", original)
    assert_same(load_checkpoint(tmp_path / "c.safetensors", rows=True), original)
    assert load_checkpoint(tmp_path / "c.safetensors").tables.rows is None
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_weights_that_name_a_deleted_option_load_where_they_do_without_it(tmp_path: Path) -> None:
    original, path = checkpoint(), tmp_path / "c.safetensors"
    save_checkpoint(path, original)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    for tied, loads in ((False, True), (True, False)):
        config = json.dumps(json.loads(metadata["config"]) | {"tied": tied, "gradient_cycles": 0})
        save_file(load_file(path), path, metadata | {"config": config})
        if loads:
            assert_same(load_checkpoint(path), replace(original, tables=replace(original.tables, rows=None)))
        else:
            with pytest.raises(CheckpointError, match="config has no key 'tied'"):
                load_checkpoint(path)


def test_the_file_is_safetensors_with_readable_metadata(tmp_path: Path) -> None:
    original = checkpoint()
    save_checkpoint(tmp_path / "c.safetensors", original)
    tensors = load_file(tmp_path / "c.safetensors")
    assert torch.equal(tensors["model.lm_head"], original.state["lm_head"])
    assert torch.equal(tensors["embedding.mean_row"], original.tables.mean_row) and "embedding.rows" not in tensors
    header = int.from_bytes((tmp_path / "c.safetensors").read_bytes()[:8], "little")
    assert header % 8 == 0  # numbers stay aligned for readers that map the file
    with safe_open(tmp_path / "c.safetensors", "pt") as file:
        about = {k: json.loads(v) for k, v in file.metadata().items() if k != "format"}
    assert about["config"]["hidden_size"] == 16 and about["embedding"] == "shared"
    assert about["data"] == ["a", "b:demos"] and about["steps"] == 12 and about["seconds"] == 3.5 and about["hashes"] == ["00ff", "1234"]


def test_numbers_of_any_format_survive(tmp_path: Path) -> None:
    original = checkpoint()
    original = replace(original, state={name: t.bfloat16() if t.ndim == 2 else t for name, t in original.state.items()})
    save_checkpoint(tmp_path / "c.safetensors", original)
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    assert loaded.state["lm_head"].dtype == torch.bfloat16
    assert_same(loaded, original)
    model, _ = build(loaded)
    assert model.lm_head.dtype == torch.float32


def test_a_built_model_computes_what_the_saved_one_did(tmp_path: Path) -> None:
    model, embedding = build(CFG, n_rows=6, seed=3)
    embedding.rows.normal_(generator=torch.Generator().manual_seed(1))
    save_checkpoint(tmp_path / "c.safetensors", snapshot(model, embedding, META))
    again, fresh = build(load_checkpoint(tmp_path / "c.safetensors"), n_rows=2, seed=99)
    tokens, rows = torch.arange(9)[None], torch.ones(1, 20)
    before, after = (m(m.initial_carry(1, 9), tokens, rows, torch.arange(9))[1] for m in (model, again))
    assert torch.equal(before, after)
    torch.testing.assert_close(fresh.rows, embedding.rows.mean(0).expand(2, -1))


def test_the_checkpoints_own_rows(tmp_path: Path) -> None:
    original = checkpoint(keep_rows=True)
    _, embedding = build(original, n_rows=None)
    assert original.tables.rows is not None and torch.equal(embedding.rows, original.tables.rows)
    assert original.tables.dihedral_rows is not None and embedding.dihedral_rows is not None
    assert torch.equal(embedding.dihedral_rows, original.tables.dihedral_rows)
    with pytest.raises(CheckpointError, match="only their mean"):
        build(checkpoint(), n_rows=None)


def test_a_fresh_model_follows_its_seed() -> None:
    first, second, other = (build(CFG, seed=s)[0].lm_head for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize("max_bytes", [2000, 20_000, 10**9])
def test_parts(tmp_path: Path, max_bytes: int) -> None:
    original = checkpoint(keep_rows=True)
    parts = save_parts(tmp_path / "p", original, max_bytes)
    assert len(parts) == 1 or max_bytes < 10**9
    for part in parts:
        assert sum(t.numel() * t.element_size() for t in load_file(part).values()) <= max_bytes
    assert_same(load_checkpoint(tmp_path / "p", rows=True), original)
    assert load_checkpoint(tmp_path / "p").tables.rows is None


def test_new_parts_replace_old_ones(tmp_path: Path) -> None:
    assert len(save_parts(tmp_path, checkpoint(seed=1), 5000)) > len(save_parts(tmp_path, checkpoint(seed=2), 50_000)) > 1
    assert_same(load_checkpoint(tmp_path), checkpoint(seed=2))


def test_faulty_sets_of_parts(tmp_path: Path) -> None:
    parts = save_parts(tmp_path / "a", checkpoint(seed=1), 20_000)
    save_parts(tmp_path / "b", checkpoint(seed=2), 20_000)
    assert len(parts) > 2
    kept = parts[1].read_bytes()
    parts[1].write_bytes((tmp_path / "b" / parts[1].name).read_bytes())
    with pytest.raises(CheckpointError, match="different checkpoints"):
        load_checkpoint(tmp_path / "a")
    parts[1].unlink()
    with pytest.raises(CheckpointError, match="part 2 of the checkpoint is missing"):
        load_checkpoint(tmp_path / "a")
    parts[1].write_bytes(kept)
    parts[-1].unlink()
    with pytest.raises(CheckpointError, match=f"part {len(parts)} of the checkpoint is missing"):
        load_checkpoint(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"holds no \.safetensors"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="too small"):
        save_parts(tmp_path / "c", checkpoint(), 10)


def edit(change: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> Callable[[Path], object]:
    def apply(path: Path) -> None:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            about = dict(file.metadata())
        change(tensors, about)
        save_file(tensors, path, about)

    return apply


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-100]), "not a whole safetensors file"),
    "cut in the header": (lambda p: p.write_bytes(p.read_bytes()[:50]), "not a whole safetensors file"),
    "empty": (lambda p: p.write_bytes(b""), "not a whole safetensors file"),
    "text": (lambda p: p.write_text("hello, world, hello"), "not a whole safetensors file"),
    "absent": (lambda p: p.unlink(), "no such file"),
    "other shape": (
        edit(lambda t, m: t.update({"model.lm_head": torch.zeros(12, 17)})),
        r"tensor 'lm_head' has shape \(12, 17\), its config asks for \(12, 16\)",
    ),
    "missing": (edit(lambda t, m: t.pop("model.tokens")), "tensor 'tokens' is missing"),
    "unknown": (edit(lambda t, m: t.update({"model.extra": torch.zeros(2)})), "tensor 'extra' belongs to no model"),
    "not finite": (edit(lambda t, m: t["model.q_bias"].fill_(float("nan"))), "'q_bias' has values that are not finite"),
    "no mean row": (edit(lambda t, m: t.pop("embedding.mean_row")), "tensor 'embedding.mean_row' is missing"),
    "no dihedral rows": (edit(lambda t, m: t.pop("embedding.dihedral_rows")), "'embedding.dihedral_rows' is missing"),
    "foreign": (edit(lambda t, m: m.clear()), "not an hrm-submit checkpoint"),
    "no config": (edit(lambda t, m: m.pop("config")), "metadata lacks 'config'"),
    "bad config": (edit(lambda t, m: m.update(config='{"hidden_size": "x"}')), "hidden_size = 'x' should be a whole number"),
    "huge config": (
        edit(lambda t, m: m.update(config=json.dumps(json.loads(m["config"]) | {"hidden_size": 2**40, "num_heads": 2}))),
        "hidden_size must be at least 1 and at most 1000000",
    ),
    "not JSON": (edit(lambda t, m: m.update(steps="{")), "its metadata cannot be read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_one_line_that_names_it(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, checkpoint())
    change, message = FAULTS[fault]
    change(path)
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_place_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written") as error:
        save_checkpoint(tmp_path / "absent" / "c.safetensors", checkpoint())
    assert "\n" not in str(error.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_parts(tmp_path / "file" / "folder", checkpoint(), 10**6)
    (tmp_path / "c.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "c.safetensors", checkpoint())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.safetensors", "file"]
