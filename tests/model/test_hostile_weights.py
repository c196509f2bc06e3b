"""Crafted checkpoints: each is refused in one short line, before anything of its sizes is allocated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.cli import main
from hrm_submit.config.schema import ModelConfig
from hrm_submit.core.errors import CheckpointError
from hrm_submit.model.weights import CheckpointMeta, build, load_checkpoint, save_checkpoint, snapshot

TINY = ModelConfig(hidden_size=16, num_heads=2, puzzle_emb_ndim=16, H_layers=1, L_layers=1)


def whole(folder: Path) -> Path:
    path = folder / "w.safetensors"
    save_checkpoint(path, snapshot(*build(TINY), CheckpointMeta(data=("x",), steps=3, preset="nano")))
    return path


def taken_apart(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def crafted(path: Path, header: Mapping[str, Any] | str, rest: bytes) -> None:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + rest)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, rows=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


CONFIG = json.loads(json.dumps({f: getattr(TINY, f) for f in TINY.__dataclass_fields__}))
METADATA = {
    "nested 100,000 deep": ("card", '{"a":' * 100_000 + "1" + "}" * 100_000, "metadata cannot be read"),
    "a card of 10 MB that is no object": ("card", json.dumps("x" * 10_000_000), "card = 'xxx"),
    "part five of none": ("part", "[5,0]", "part = [5,0]"),
    "part of one and a half": ("part", "[1,1.5]", "part = [1,1.5]"),
    "part of null": ("part", "[1,null]", "part = [1,null]"),
    "part infinity": ("part", "[1e400,1]", "part = [1e400,1]"),
    "ten billion parts": ("part", "[1,10000000000]", "part = [1,10000000000]"),
    "an index of 5,000 digits": ("part", "[1," + "9" * 5000 + "]", "part = [1,999"),
    "a version from the future": ("version", '"99.1.0"', "hrm-submit 99.1.0, which is newer"),
    "negative steps": ("steps", "-5", "steps = -5"),
    "steps of 5,000 digits": ("steps", "9" * 5000, "metadata cannot be read"),
    "data that is a text": ("data", '"arc"', "data = 'arc'"),
    "hashes of numbers": ("hashes", "[1, 2]", "hashes holds something else than texts"),
    "a preset that is a list": ("preset", "[]", "preset = []"),
    "sizes of no model": ("config", json.dumps(CONFIG | {"hidden_size": 10**30}), "hidden_size must be at least 1 and at most"),
    "no heads": ("config", json.dumps(CONFIG | {"num_heads": 0}), "num_heads must be at least 1"),
    "an expansion without end": ("config", json.dumps(CONFIG | {"expansion": 1e200}), "expansion must be above 0"),
    "a size that is a text": ("config", json.dumps(CONFIG | {"H_layers": "2"}), "H_layers = '2' should be a whole number"),
    "a million layers": ("config", json.dumps(CONFIG | {"H_layers": 1_000_000}), "asks for 1000001 layers, and there are"),
    "wide layers": ("config", json.dumps(CONFIG | {"hidden_size": 999_996, "num_heads": 3}), "its config asks for sizes up to 999996"),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata(tmp_path: Path, case: str) -> None:
    key, value, said = METADATA[case]
    path = whole(tmp_path)
    header, rest = taken_apart(path)
    header["__metadata__"][key] = value
    crafted(path, header, rest)
    assert said in refusal(path)


def test_tensors_of_other_formats_and_places(tmp_path: Path) -> None:
    path = whole(tmp_path)
    header, rest = taken_apart(path)
    name = next(n for n in header if n != "__metadata__")
    for change, said in (
        ({"dtype": "F8_E4M3"}, "has the number format F8_E4M3, which is not read"),
        ({"shape": [2**60, 2**60]}, "has a shape or place that the file has no room for"),
        ({"shape": [-1]}, "has a shape or place"),
        ({"data_offsets": [0, 10**18]}, "has a shape or place"),
        ({"data_offsets": [0, 4]}, "has another size than its shape says"),
        ({"data_offsets": []}, "has another size than its shape says"),
    ):
        crafted(path, header | {name: header[name] | change}, rest)
        assert said in refusal(path)


def test_headers(tmp_path: Path) -> None:
    path = whole(tmp_path)
    header, rest = taken_apart(path)
    text = json.dumps(header)
    for made, said in (
        (text[:1] + '"__metadata__": {},' + text[1:], "has a key twice"),
        ("[]", "its header is no object"),
        ('{"__metadata__": 5}', "its metadata is no map of texts"),
        ("{", "not a whole safetensors file"),
    ):
        crafted(path, made, rest)
        assert said in refusal(path)
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    assert "more than the file has" in refusal(path)
    path.write_bytes(b"")
    refusal(path)


def test_paths_that_are_none(tmp_path: Path) -> None:
    for path in (Path("x" * 5000), Path("a\0b"), tmp_path / "nothing.safetensors"):
        refusal(path)


def test_the_command_says_it_in_three_hundred_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = whole(tmp_path)
    header, rest = taken_apart(path)
    header["__metadata__"]["card"] = json.dumps("x" * 1_000_000)
    crafted(path, header, rest)
    task = tmp_path / "t.json"
    task.write_text('{"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1]]}]}')
    given = ["--challenges", str(task), "--output", str(tmp_path / "s.json"), "--checkpoint", str(path), "--segments-per-task", "1"]
    assert main(["solve", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) <= 300 and line.startswith("hrm-submit: ")
