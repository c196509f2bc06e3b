"""Checkpoints: written, read by others, read back, refused."""

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
from hrm_submit.model.embedding import TaskEmbedding, chunked_mean
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
    return snapshot(model, embedding, replace(META, row_ids=tuple("abcdef")) if keep_rows else META)


def assert_same(a: Checkpoint, b: Checkpoint) -> None:
    assert a.config == b.config and a.meta == b.meta
    torch.testing.assert_close(a.state, b.state, rtol=0, atol=0)
    for name in ("mean_row", "dihedral_rows", "rows"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=0)


@pytest.mark.parametrize("keep_rows", [False, True])
@pytest.mark.parametrize("scheme", ["shared", "augmented"])
@pytest.mark.parametrize(("positions", "codes"), [("rope", ()), ("learned", ("mirror", "sight"))])
def test_round_trip(tmp_path: Path, keep_rows: bool, scheme: str, positions: str, codes: tuple[str, ...]) -> None:
    config = replace(CFG, embedding=scheme, pos_encodings=positions, codes=codes)  # type: ignore[arg-type]
    original = checkpoint(config, keep_rows)
    save_checkpoint(tmp_path / "c.safetensors", original)
    assert_same(load_checkpoint(tmp_path / "c.safetensors", rows=True), original)
    assert load_checkpoint(tmp_path / "c.safetensors").rows is None
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_model_built_from_a_file_computes_what_the_saved_one_did(tmp_path: Path) -> None:
    original, path = checkpoint(keep_rows=True), tmp_path / "c.safetensors"
    save_checkpoint(path, original)
    before, after = build(original), build(load_checkpoint(path), n_rows=2, seed=99)
    tokens, rows = torch.arange(9)[None], torch.ones(1, 20)
    assert torch.equal(*(m(m.initial_carry(1, 9), tokens, rows, torch.arange(9))[1] for m, _ in (before, after)))
    embedding = after[1]
    assert original.rows is not None and original.dihedral_rows is not None and embedding.dihedral_rows is not None
    assert torch.equal(embedding.dihedral_rows, original.dihedral_rows)
    torch.testing.assert_close(embedding.rows, original.rows.mean(0).expand(2, -1))


def test_the_mean_row_is_the_mean_in_any_chunks() -> None:
    table = torch.randn(1001, 3, generator=torch.Generator().manual_seed(0)) + 100
    for chunk in (1, 7, 1000, 5000):
        torch.testing.assert_close(chunked_mean(table, chunk), table.double().mean(0).float())


def test_rows_that_no_batch_drew_have_no_part_in_the_mean_row() -> None:
    embedding = TaskEmbedding(CFG, 5)
    embedding.rows[1], embedding.rows[3] = 1.0, torch.arange(1.0, 1.0 + CFG.puzzle_emb_ndim)
    torch.testing.assert_close(embedding.mean_row(), (1.0 + torch.arange(1.0, 1.0 + CFG.puzzle_emb_ndim)) / 2)
    assert not TaskEmbedding(CFG, 5).mean_row().any()


def test_tensors_in_bfloat16_are_read(tmp_path: Path) -> None:
    original, path = checkpoint(), tmp_path / "c.safetensors"
    original = replace(original, state={name: t.bfloat16() if t.ndim == 2 else t for name, t in original.state.items()})
    save_checkpoint(path, original)
    assert_same(load_checkpoint(path), original)
    assert build(load_checkpoint(path))[0].lm_head.dtype == torch.float32
    assert torch.equal(load_file(path)["model.lm_head"], original.state["lm_head"]), "as any reader of safetensors finds it"


def edit(change: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> Callable[[Path], object]:
    def apply(path: Path) -> None:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            about = dict(file.metadata())
        change(tensors, about)
        save_file(tensors, path, about)

    return apply


def configured(**more: object) -> Callable[[Path], object]:
    return edit(lambda t, m: m.update(config=json.dumps(json.loads(m["config"]) | more)))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-100]), "not a whole safetensors file"),
    "another number format": (edit(lambda t, m: t.update({"model.q_bias": torch.zeros(2, dtype=torch.int64)})), "number format I64"),
    "absent": (lambda p: p.unlink(), "no such file"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "Is a directory"),
    "other shape": (edit(lambda t, m: t.update({"model.lm_head": torch.zeros(12, 17)})), r"lm_head' has shape \(12, 17\), its config"),
    "missing": (edit(lambda t, m: t.pop("model.tokens")), "tensor 'model.tokens' is missing"),
    "unknown": (edit(lambda t, m: t.update({"model.extra": torch.zeros(2)})), "tensor 'model.extra' belongs to no model"),
    "not finite": (edit(lambda t, m: t["model.q_bias"].fill_(float("nan"))), "'model.q_bias' has values that are not finite"),
    "no dihedral rows": (edit(lambda t, m: t.pop("embedding.dihedral_rows")), "'embedding.dihedral_rows' is missing"),
    "foreign": (edit(lambda t, m: m.clear()), "not an hrm-submit checkpoint"),
    "no hashes": (edit(lambda t, m: m.pop("hashes")), "metadata cannot be read: KeyError.'hashes'"),
    "a version from the future": (edit(lambda t, m: m.update(version='"99.1.0"')), "hrm-submit 99.1.0, which is newer"),
    "a key of no model": (configured(tied=True), "config has no key 'tied'"),
    "a million layers": (configured(H_layers=1_000_000), "tensor 'model.H_level.blocks.1.gate_up' is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_one_line_that_names_it(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, checkpoint())
    change, message = FAULTS[fault]
    change(path)
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value) and len(str(error.value)) < 450


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
