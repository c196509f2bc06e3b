"""Files that are whole or absent: written to a temporary file, then moved. And their hashes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path


def write_atomic(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Replace `path` by `data` (text as UTF-8) so that a reader, or a kill at any moment, sees the old file or the new one.

    Raises OSError, in which case the old file is untouched.
    """
    target = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private; what a run leaves should be readable as any file is
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hash (SHA-256) a file, or the files of a folder with their names, in order. Raises OSError."""
    target, total = Path(path), hashlib.sha256()
    if target.is_dir():
        for file in sorted(f for f in target.rglob("*") if f.is_file()):
            total.update(f"{file.relative_to(target)}\0{sha256_of(file)}\n".encode())
        return total.hexdigest()
    with target.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
