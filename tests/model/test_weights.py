"""Checkpoints: written, read by others, read back, refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hrm_submit.config.preset_files import load_preset, preset_names
from hrm_submit.config.schema import ModelConfig
from hrm_submit.core.errors import CheckpointError
from hrm_submit.model.checkpoint_header import model_shapes
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import Checkpoint, CheckpointMeta, build, load_checkpoint, save_checkpoint, snapshot

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


def test_weights_that_name_a_retired_key_load_where_it_asks_for_nothing(tmp_path: Path) -> None:
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
    with safe_open(tmp_path / "c.safetensors", "pt") as file:
        metadata = {k: json.loads(v) for k, v in file.metadata().items() if k != "format"}
    assert metadata["config"]["hidden_size"] == 16 and metadata["embedding"] == "shared"
    assert metadata["data"] == ["a", "b:demos"] and metadata["steps"] == 12 and metadata["hashes"] == ["00ff", "1234"]


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


def edit(change: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> Callable[[Path], object]:
    def apply(path: Path) -> None:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            about = dict(file.metadata())
        change(tensors, about)
        save_file(tensors, path, about)

    return apply


def about(key: str, value: str) -> Callable[[Path], object]:
    return edit(lambda t, m: m.update({key: value}))


def configured(**more: object) -> Callable[[Path], object]:
    return edit(lambda t, m: m.update(config=json.dumps(json.loads(m["config"]) | more)))


def in_header(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) >= 1 and len(old) == len(new), "the header keeps its length"
    path.write_bytes(data.replace(old, new, 1))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-100]), "not a whole safetensors file"),
    "cut in the header": (lambda p: p.write_bytes(p.read_bytes()[:50]), "not a whole safetensors file"),
    "empty": (lambda p: p.write_bytes(b""), "not a whole safetensors file"),
    "text": (lambda p: p.write_text("hello, world, hello"), "not a whole safetensors file"),
    "a header without end": (lambda p: p.write_bytes((2**62).to_bytes(8, "little") + b"{}"), "not a whole safetensors file"),
    "a size that does not fit": (lambda p: in_header(p, b'"shape":[12,16]', b'"shape":[92,16]'), "not a whole safetensors file"),
    "another number format": (edit(lambda t, m: t.update({"model.q_bias": torch.zeros(2, dtype=torch.int64)})), "number format I64"),
    "absent": (lambda p: p.unlink(), "no such file"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), r"is a folder; a checkpoint is one \.safetensors file"),
    "other shape": (
        edit(lambda t, m: t.update({"model.lm_head": torch.zeros(12, 17)})),
        r"tensor 'model.lm_head' has shape \(12, 17\), its config asks for \(12, 16\)",
    ),
    "missing": (edit(lambda t, m: t.pop("model.tokens")), "tensor 'model.tokens' is missing"),
    "unknown": (edit(lambda t, m: t.update({"model.extra": torch.zeros(2)})), "tensor 'model.extra' belongs to no model"),
    "not finite": (edit(lambda t, m: t["model.q_bias"].fill_(float("nan"))), "'model.q_bias' has values that are not finite"),
    "no mean row": (edit(lambda t, m: t.pop("embedding.mean_row")), "tensor 'embedding.mean_row' is missing"),
    "no dihedral rows": (edit(lambda t, m: t.pop("embedding.dihedral_rows")), "'embedding.dihedral_rows' is missing"),
    "foreign": (edit(lambda t, m: m.clear()), "not an hrm-submit checkpoint"),
    "no config": (edit(lambda t, m: m.pop("config")), "metadata lacks 'config'"),
    "no hashes": (edit(lambda t, m: m.pop("hashes")), "metadata lacks 'hashes'"),
    "not JSON": (about("steps", "{"), "its metadata cannot be read"),
    "nested 100,000 deep": (about("card", '{"a":' * 100_000 + "1" + "}" * 100_000), "metadata cannot be read"),
    "a card of 10 MB that is no object": (about("card", json.dumps("x" * 10_000_000)), "card = 'xxx"),
    "a version from the future": (about("version", '"99.1.0"'), "hrm-submit 99.1.0, which is newer"),
    "negative steps": (about("steps", "-5"), "steps = -5"),
    "steps of 5,000 digits": (about("steps", "9" * 5000), "metadata cannot be read"),
    "hashes of numbers": (about("hashes", "[1, 2]"), r"hashes = \[1, 2\]"),
    "a preset that is a list": (about("preset", "[]"), r"preset = \[\]"),
    "sizes of no model": (configured(hidden_size=10**30), "hidden_size must be at least 1 and at most"),
    "a size that is a text": (configured(H_layers="2"), "H_layers = '2' should be a whole number"),
    "a million layers": (configured(H_layers=1_000_000), "tensor 'model.H_level.blocks.1.gate_up' is missing"),
    "wide layers": (configured(hidden_size=999_996, num_heads=3), "asks for \\(12, 999996\\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_one_line_that_names_it(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, checkpoint())
    change, message = FAULTS[fault]
    change(path)
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("path", [Path("x" * 5000), Path("a\0b")], ids=["too long", "a null byte"])
def test_what_cannot_be_a_path_is_one_line(path: Path) -> None:
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize("name", [*preset_names(), "learned"])
def test_the_shapes_checked_are_those_of_the_model(name: str) -> None:
    config = replace(CFG, pos_encodings="learned") if name == "learned" else load_preset(name).model
    assert dict(model_shapes(config)) == {n: tuple(t.shape) for n, t in HRM(config, initialise=False).state_dict().items()}


def test_a_header_is_read_without_torch() -> None:
    use = "from hrm_submit.model.packaged import packaged_checkpoint as c, resolve_preset; resolve_preset('', c(''))"
    code = f"import sys; {use}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_place_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written") as error:
        save_checkpoint(tmp_path / "absent" / "c.safetensors", checkpoint())
    assert "\n" not in str(error.value)
    (tmp_path / "c.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "c.safetensors", checkpoint())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.safetensors"]
