"""How a checkpoint's tensors are shared out over several files, and put together again.

Tensors fill parts in order; one that does not fit into a part is cut between rows into pieces named `NAME@FIRST_ROW`.
Each part says which of how many it is and to which set it belongs, so that a missing or foreign part is found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hrm_submit.core.errors import CheckpointError, clipped
from hrm_submit.model.tensorfile import stored_bytes

MOST_PARTS = 10_000
CUT = "@"
"""Between a tensor's name and the first row of a piece of it."""


def divide(tensors: Mapping[str, Tensor], max_bytes: int) -> list[dict[str, Tensor]]:
    """Share `tensors` out, at most `max_bytes` a part. Raises CheckpointError where one row is larger than a part."""
    parts: list[dict[str, Tensor]] = [{}]
    room = max_bytes
    for name, tensor in tensors.items():
        for piece_name, piece in _pieces(name, tensor, max_bytes):
            size = stored_bytes(piece)
            if size > room and parts[-1]:
                parts.append({})
                room = max_bytes
            parts[-1][piece_name] = piece
            room -= size
    return parts


def join(source: str, pieces: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that `pieces` of all parts make up. Raises CheckpointError naming `source` where a piece is missing."""
    cut: dict[str, dict[int, Tensor]] = {}
    whole = {}
    for name, tensor in pieces.items():
        stem, mark, start = name.partition(CUT)
        if mark and start.isdecimal() and len(start) < 16:
            cut.setdefault(stem, {})[int(start)] = tensor
        else:
            whole[name] = tensor
    for stem, rows in cut.items():
        ordered = [rows[start] for start in sorted(rows)]
        if sorted(rows) != [sum(len(t) for t in ordered[:i]) for i in range(len(ordered))]:
            raise CheckpointError(f"{source}: tensor {stem!r} lacks rows")
        try:
            whole[stem] = torch.cat(ordered)
        except RuntimeError:
            raise CheckpointError(f"{source}: the pieces of tensor {stem!r} do not fit together") from None
    return whole


def label(number: int, count: int, digest: str) -> dict[str, str]:
    """Metadata that every part carries: which of how many (from 1), and of what set."""
    return {"part": json.dumps([number, count]), "digest": digest}


def digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Names the set that parts belong to: metadata, names and contents."""
    total = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in tensors.items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


def first_part(source: str, metadata: Mapping[Path, Mapping[str, str]]) -> Path:
    """The file that carries the metadata of all; checks that the files are exactly the parts of one set.

    Raises CheckpointError naming `source`.
    """
    numbers: dict[int, Path] = {}
    counts, sets = set(), set()
    for file, about in metadata.items():
        try:
            number, count = json.loads(about.get("part", "[1, 1]"))
            if not (type(number) is type(count) is int and 1 <= number <= count <= MOST_PARTS):
                raise ValueError
            numbers[number] = file
        except (ValueError, TypeError, RecursionError):
            raise CheckpointError(f"{file}: its metadata cannot be read: part = {clipped(about['part'], 60)}") from None
        counts.add(count)
        sets.add(about.get("digest", ""))
    if len(sets) > 1 or len(counts) > 1 or len(numbers) < len(metadata):
        raise CheckpointError(f"{source}: its .safetensors files belong to different checkpoints")
    missing = sorted(set(range(1, counts.pop() + 1)) - set(numbers))
    if missing:
        raise CheckpointError(f"{source}: part {missing[0]} of the checkpoint is missing")
    return numbers[1]


def _pieces(name: str, tensor: Tensor, max_bytes: int) -> list[tuple[str, Tensor]]:
    if stored_bytes(tensor) <= max_bytes:
        return [(name, tensor)]
    row = stored_bytes(tensor[:1]) if tensor.ndim else stored_bytes(tensor)
    rows = max_bytes // row
    if not rows or tensor.ndim == 0:
        raise CheckpointError(f"parts of {max_bytes} bytes are too small: a row of {name!r} takes {row}")
    return [(f"{name}{CUT}{start}", tensor[start : start + rows]) for start in range(0, len(tensor), rows)]
