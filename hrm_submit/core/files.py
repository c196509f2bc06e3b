"""Regular files, written whole or not at all, appended, read, hashed. A FIFO may never end, and a device is not ours to replace."""

import errno
import hashlib
import math
import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from hrm_submit.core.errors import ConfigError, DataError


def write_atomic(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Replace `path` by `data` (text as UTF-8) so that a reader, or a kill at any moment, sees the old file or the new one.

    A link stays, and its target is replaced. Raises OSError, in which case the old file is untouched.
    """
    target = Path(os.path.realpath(path))
    if target.exists():
        check_regular(target)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):  # some mounted disks refuse it
            os.chmod(temporary, 0o644)  # mkstemp makes it private; what a run leaves should be readable as any file is
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_regular(path: str | os.PathLike[str], most: float = math.inf) -> None:
    """Raise OSError unless `path`, or what it links to, is a regular file of at most so many bytes."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    if found.st_size > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))


def open_regular(path: str | os.PathLike[str], most: float = math.inf) -> BufferedReader:
    """Open a regular file, of at most so many bytes, for reading. Raises OSError."""
    check_regular(path, most)
    return open(path, "rb")


def read_fault(error: OSError) -> str:
    """Say why a file cannot be read."""
    return "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"


def append_whole(path: Path, data: bytes) -> None:
    """Append all of `data` or nothing, and hand it to the system; make the file and its folder where there is none. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        if file.write(data) != len(data):  # a disk that is nearly full takes a part, which must not stay
            file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_output(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a file that a user named, as `write_atomic` does. Raises DataError where it cannot be written."""
    try:
        write_atomic(path, data)
    except OSError as error:
        raise DataError(f"{os.fspath(path)}: cannot be written: {error.strerror or error}") from None


def refuse_overwriting(target: Path, sources: Iterable[Path]) -> None:
    """Raise ConfigError where `target` is one of `sources`."""
    if target.exists() and any(source.exists() and target.samefile(source) for source in sources):
        raise ConfigError(f"{target}: is one of the files to read and would be overwritten: give another --output")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hash (SHA-256) a file. Raises OSError."""
    with open_regular(path) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
