"""Writes and reads safetensors files without ever holding them whole.

Writing streams each tensor in chunks (the safetensors package would first copy every byte, and an embedding table may be
gigabytes); a file appears under its name only when it is complete. Reading goes through the safetensors package, which checks
that header and size agree, so a truncated file is told from a whole one.

Format: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hrm_submit.core.errors import CheckpointError, clipped

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_CHUNK = 1 << 22
LONGEST_HEADER = 100_000_000
"""Bytes: what safetensors itself allows."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replace `path` by a safetensors file of `tensors`. Raises CheckpointError where that is impossible; the old file then stays."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                _write(file, tensors, metadata)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)  # mkstemp makes it private; a checkpoint is for whoever may read the folder
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from None


def read_metadata(path: Path) -> dict[str, str]:
    """The string map in the file's header, which is checked against the file's size before any tensor is. Raises CheckpointError for
    anything but a whole safetensors file of number formats that we write."""
    try:
        return _checked_header(path)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from None


def _checked_header(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise ValueError(f"its header should have {length} bytes, more than {'the file has' if length > size else 'are read'}")
        header = json.loads(file.read(length), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise ValueError("its metadata is no map of texts")
    for name, tensor in header.items():
        fault = _fault_of(tensor, size - 8 - length)
        if fault:
            raise ValueError(f"tensor {clipped(repr(name), 80)} {fault}")
    return about


def _fault_of(tensor: object, room: int) -> str | None:
    """What is wrong with a header's entry, for a file with `room` bytes of tensors."""
    if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"}:
        return "has no dtype, shape and data_offsets"
    kind = next((dtype for dtype, word in _DTYPES.items() if word == tensor["dtype"]), None)
    if kind is None:
        return f"has the number format {clipped(tensor['dtype'], 20)}, which is not read"
    numbers = [tensor["shape"], tensor["data_offsets"]]
    if not all(isinstance(n, list) and len(n) <= 8 and all(type(x) is int and 0 <= x <= room for x in n) for n in numbers):
        return "has a shape or place that the file has no room for"
    begin, end = numbers[1] if len(numbers[1]) == 2 else (1, 0)
    if end - begin != math.prod(numbers[0]) * kind.itemsize:
        return "has another size than its shape says"
    return None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has a key twice")
    return found


def read_tensors(path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The tensors whose name `wanted` accepts, on the CPU. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names if wanted(name)}
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None


def stored_bytes(tensor: Tensor) -> int:
    """Bytes that `tensor` takes in a file, header apart."""
    return tensor.numel() * tensor.element_size()


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    if isinstance(error, FileNotFoundError):
        return CheckpointError(f"{path}: no such file")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else clipped(error, 150)
    return CheckpointError(f"{path}: not a whole safetensors file: {reason}")


def _write(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    # Wide elements first keeps every tensor aligned to its element size, as readers that map the file expect.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in ordered:
        end = offset + stored_bytes(tensor)
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for _, tensor in ordered:
        flat = tensor.detach().reshape(-1)
        for start in range(0, flat.numel(), _CHUNK):
            file.write(flat[start : start + _CHUNK].cpu().view(torch.uint8).numpy().data)
