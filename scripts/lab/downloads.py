"""Corpora from their authors' repositories: downloaded, verified, unpacked, and put in place in one step.

What is verified before anything is used:
- ConceptARC: the content, file by file. GitHub makes its archives on demand and their bytes may change; so the SHA-256 is that
  of a list of all task files, each with its own SHA-256, as they are in the repository at that commit.
- RE-ARC: the archive re_arc.zip as a whole, by the id that git gives it at that commit (SHA-1 over its length and content).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import ssl
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from hrm_submit.core.errors import DataError
from hrm_submit.core.files import sha256_of

RECEIPT = ".fetched.json"
CHUNK = 1 << 20
TIMEOUT = 60.0
"""Seconds without a byte after which a download is given up."""


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from and what it must be.

    `inside` is the folder of the archive, below `strip` leading folders, whose `.json` files are the tasks; `archive_id` is git's id
    of the archive and `content` the SHA-256 that `listing_digest` gives for the files; one of the two must be given.
    `largest` bounds the bytes of all task files together.
    """

    url: str
    revision: str
    inside: str
    strip: int
    largest: int
    archive_id: str | None = None
    content: str | None = None

    def __post_init__(self) -> None:
        if self.archive_id is None and self.content is None:
            raise ValueError(f"{self.url}: nothing to verify it by")


SOURCES: Mapping[str, Source] = {
    "conceptarc": Source(
        url="https://github.com/victorvikram/ConceptARC/archive/b22ef526b4656679816b7811e78f55cc24d736d7.zip",
        revision="b22ef526b4656679816b7811e78f55cc24d736d7",
        inside="corpus",
        strip=1,
        largest=50_000_000,
        content="a3bab570eb59be921d4e9e2271aecb98c351ef8d679895674eec9573ee0394a0",
    ),
    "re-arc": Source(
        url="https://raw.githubusercontent.com/michaelhodel/re-arc/e5b7f1d06362a76f9d3b8c25154ff1fafca897ce/re_arc.zip",
        revision="e5b7f1d06362a76f9d3b8c25154ff1fafca897ce",
        inside="re_arc/tasks",
        strip=0,
        largest=4_000_000_000,
        archive_id="2365d068ba4564fce626862a93794d7b6ad93fdf",
    ),
}


def fetch(name: str, source: Source, folder: Path, archive: Path | None = None) -> str:
    """Make `folder/name` hold the corpus, from `archive` if given, and say in a line what was done. Raises DataError, OSError."""
    target = folder / name
    if is_valid(target, source):
        return f"{name}: {target} is complete, nothing to do"
    if target.exists() and not (target / RECEIPT).is_file():
        raise DataError(f"{name}: {target} is there, but did not come from here and is not as it should be: move it away")
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}-{source.revision[:12]}.zip.part"
    if archive is None:
        download(name, source.url, part)
    try:
        n_files = install(name, source, archive or part, target)
    except DataError:
        if archive is None:
            part.unlink()  # to go on after a wrong one would never give the right one
        raise
    part.unlink(missing_ok=True)
    return f"{name}: {n_files} task files in {target}, verified"


def download(name: str, url: str, part: Path) -> None:
    """Fetch `url` into `part`, going on after what is there already. Raises DataError, leaving what has arrived."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "hrm-submit", **({"Range": f"bytes={have}-"} if have else {})})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            goes_on = answer.status == http.client.PARTIAL_CONTENT
            length = answer.headers.get("Content-Length")
            missing = int(length) if length else None
            start = have if goes_on else 0
            with part.open("ab" if goes_on else "wb") as file, _progress(name, start, missing) as bar:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing comes after what is there
        raise DataError(f"{name}: {url}: {error.code} {error.reason}") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{name}: {url}: {' '.join(str(reason).split()) or type(error).__name__}") from None
    arrived = part.stat().st_size
    if missing is not None and arrived != start + missing:
        raise DataError(f"{name}: {url}: broke off after {arrived} of {start + missing} bytes; run the command again to continue")


def install(name: str, source: Source, archive: Path, target: Path) -> int:
    """Verify `archive`, unpack its tasks beside `target` and put them in its place; the number of files. Raises DataError."""
    if not archive.is_file():
        raise DataError(f"{name}: {archive}: no such file")
    if source.archive_id is not None and (found := git_id(archive)) != source.archive_id:
        raise DataError(
            f"{name}: {archive}: not the archive of revision {source.revision[:12]}: its git id is {found}, not {source.archive_id}"
        )
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=target.parent))
    try:
        try:
            unpack(archive, fresh, source)
        except DataError as error:
            raise DataError(f"{name}: {archive}: {error}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{name}: {archive}: not a whole .zip archive: {error}") from None
        files = digests(fresh)
        content = listing_digest(files)
        if source.content is not None and content != source.content:
            fault = f"its {len(files)} task files are not those of revision {source.revision[:12]}"
            raise DataError(f"{name}: {archive}: {fault}: SHA-256 {content}, not {source.content}")
        (fresh / RECEIPT).write_text(json.dumps({"url": source.url, "revision": source.revision, "files": len(files), "content": content}))
        fresh.chmod(0o755)
        _replace(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return len(files)


def unpack(archive: Path, folder: Path, source: Source) -> None:
    """Write the task files of `archive` into `folder`. Raises DataError for an archive that reaches outside, or holds links,
    no tasks or far too much; zipfile's own errors for one that is damaged."""
    total, seen = 0, set()
    with zipfile.ZipFile(archive) as content:
        # every member is looked at before the first is written: an archive that tries to escape is not trusted in part
        wanted = [(member, path) for member in content.infolist() if (path := _task_path(member, source))]
        for member, path in wanted:
            total += member.file_size
            if total > source.largest:
                raise DataError(f"holds more than {source.largest} bytes of tasks")
            if path in seen:
                raise DataError(f"holds {path} twice")
            seen.add(path)
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with content.open(member) as packed, place.open("xb") as file:
                shutil.copyfileobj(packed, file, CHUNK)
    if not wanted:
        raise DataError(f"has no .json files in {source.inside}")


def is_valid(target: Path, source: Source) -> bool:
    """Whether `target` holds exactly the task files of the right revision: the known ones, else those that were unpacked there."""
    expected = source.content
    try:
        if expected is None:
            receipt = json.loads((target / RECEIPT).read_bytes())
            expected = receipt["content"] if receipt["revision"] == source.revision else None
        return listing_digest(digests(target)) == expected
    except (OSError, ValueError, KeyError, TypeError):
        return False


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every `.json` file in `folder` and below by its path there, the receipt left out."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.json")}
    return {name: sha256_of(path) for name, path in files.items() if name != RECEIPT}


def listing_digest(files: Mapping[str, str]) -> str:
    """SHA-256 of the lines `SHA256  PATH`, in order of the paths: what `sha256sum` prints for them."""
    return hashlib.sha256("".join(f"{files[name]}  {name}\n" for name in sorted(files)).encode()).hexdigest()


def git_id(path: Path) -> str:
    """The id that git gives a file: SHA-1 of `blob`, its length, a zero byte and its content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _task_path(member: zipfile.ZipInfo, source: Source) -> PurePosixPath | None:
    """Where a member goes, relative to the corpus; None if it is no task file. Raises DataError if it is not to be trusted."""
    name = member.orig_filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not name.isprintable():
        raise DataError(f"refused: its member {name!r} would leave the folder")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(f"refused: its member {name!r} is a link")
    below = PurePosixPath(*path.parts[source.strip :])
    if member.is_dir() or below.suffix != ".json" or not below.is_relative_to(source.inside):
        return None
    return below.relative_to(source.inside)


def _replace(fresh: Path, target: Path) -> None:
    """Move `fresh` to `target`; what was there goes only when the new one stands."""
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    try:
        if target.exists():
            target.rename(old / target.name)
        fresh.rename(target)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _progress(name: str, start: int, missing: int | None) -> tqdm[Any]:
    total = None if missing is None else start + missing
    return tqdm(desc=name, initial=start, total=total, unit="B", unit_scale=True, disable=None, leave=False)
