"""Download corpora from their authors' repositories with pooch, verify, unpack, and put them in place in one step."""

import hashlib
import json
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pooch
import requests

from hrm_submit.core.errors import DataError, clipped
from hrm_submit.core.files import sha256_of
from lab.generators import draw_all

RECEIPT = ".fetched.json"
TIMEOUT = 60.0
"""Seconds without a byte after which a download is given up."""


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from, and what it must be.

    The `.json` files below the folder `inside`, anywhere in the archive at `url`, are the tasks, `largest` bytes at most in all. Either
    `archive_id` is git's id of the archive, or `content` is the SHA-256 that `listing_digest` gives for the files. `generators`: the
    archive holds no tasks but programs that draw them, `.py` files below `inside`, which `content` identifies.
    """

    url: str
    revision: str
    inside: str
    largest: int
    archive_id: str | None = None
    content: str | None = None
    generators: bool = False

    @property
    def suffix(self) -> str:
        """The ending of the files that are taken from the archive."""
        return ".py" if self.generators else ".json"


SOURCES: Mapping[str, Source] = {
    "conceptarc": Source(
        url="https://github.com/victorvikram/ConceptARC/archive/b22ef526b4656679816b7811e78f55cc24d736d7.zip",
        revision="b22ef526b4656679816b7811e78f55cc24d736d7",
        inside="corpus",
        largest=50_000_000,
        content="a3bab570eb59be921d4e9e2271aecb98c351ef8d679895674eec9573ee0394a0",
    ),
    "re-arc": Source(
        url="https://raw.githubusercontent.com/michaelhodel/re-arc/e5b7f1d06362a76f9d3b8c25154ff1fafca897ce/re_arc.zip",
        revision="e5b7f1d06362a76f9d3b8c25154ff1fafca897ce",
        inside="re_arc/tasks",
        largest=4_000_000_000,
        archive_id="2365d068ba4564fce626862a93794d7b6ad93fdf",
    ),
    "arc-gen": Source(
        url="https://github.com/google/ARC-GEN/archive/a15cbdb44c776610aeeb9f487a06af875d3d0878.zip",
        revision="a15cbdb44c776610aeeb9f487a06af875d3d0878",
        inside="ARC-GEN-a15cbdb44c776610aeeb9f487a06af875d3d0878",
        largest=50_000_000,
        content="65e9655acd6a4a3ee23ad9b0828071fafa97953cc21b9957bf343a78c8e842ea",
        generators=True,
    ),
}


def fetch(name: str, source: Source, folder: Path) -> str:
    """Make `folder/name` hold the corpus, and say in a line what was done. Raises DataError, OSError."""
    target = folder / name
    if is_valid(target, source):
        return f"{name}: {target} is complete, nothing to do"
    if target.exists() and not (target / RECEIPT).is_file():
        raise DataError(f"{name}: {target} is there, but did not come from here and is not as it should be: move it away")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as scratch:
        place, fresh = download(name, source.url, Path(scratch)), Path(scratch, "fresh")
        failed: list[str] = []
        try:
            count = unpack(place, fresh, source)
            if source.generators:
                code = fresh.rename(Path(scratch, "code"))
                count, failed = draw_all(code, fresh)
        except (DataError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            fault = error if isinstance(error, DataError) else f"not a whole .zip archive: {error}"
            raise DataError(f"{name}: {source.url}: {fault}") from None
        receipt = {"url": source.url, "revision": source.revision, "files": count, "content": listing_digest(fresh)}
        (fresh / RECEIPT).write_text(json.dumps(receipt), encoding="utf-8")
        if target.exists():
            target.rename(Path(scratch, "old"))
        fresh.rename(target)
    slow = f"; {len(failed)} generators gave no pair in time: {', '.join(failed)}" if failed else ""
    return f"{name}: {count} task files in {target}, verified{slow}"


def download(name: str, url: str, folder: Path) -> Path:
    """Download `url` into `folder`; the archive's path. Raises DataError, in one line where there is no network."""
    try:
        loader = pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=sys.stderr.isatty())
        pooch.get_logger().setLevel("WARNING")
        return Path(pooch.retrieve(url, known_hash=None, fname=f"{name}.zip", path=folder, downloader=loader))
    except requests.exceptions.RequestException as error:
        raise DataError(f"{name}: {url}: {clipped(error)}") from None


def unpack(archive: Path, folder: Path, source: Source) -> int:
    """Verify `archive` and write its files into `folder`; their number. Raises DataError, zipfile's own errors."""
    if source.archive_id and (found := git_id(archive)) != source.archive_id:
        raise DataError(f"not the archive of revision {source.revision[:12]}: its git id is {found}, not {source.archive_id}")
    with zipfile.ZipFile(archive) as content:
        wanted = {member: path for member in content.infolist() if (path := _below(member.filename, source))}
        if sum(member.file_size for member in wanted) > source.largest:
            raise DataError(f"holds more than {source.largest} bytes of tasks")
        for member, path in wanted.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with content.open(member) as packed, (folder / path).open("wb") as file:
                shutil.copyfileobj(packed, file)
    if not wanted:
        raise DataError(f"has no {source.suffix} files in {source.inside}")
    digest = listing_digest(folder, source.suffix)
    if source.content not in (None, digest):
        fault = f"its {len(wanted)} files are not those of revision {source.revision[:12]}"
        raise DataError(f"{fault}: SHA-256 {digest}, not {source.content}")
    return len(wanted)


def _below(name: str, source: Source) -> PurePosixPath | None:
    """Return the path of a file to take below the folder `inside`; None for other members, and for names that would leave the folder."""
    path, inner = PurePosixPath(name), PurePosixPath(source.inside).parts
    for start in range(len(path.parts) - len(inner)):
        if path.parts[start : start + len(inner)] == inner and path.suffix == source.suffix and ".." not in path.parts:
            return PurePosixPath(*path.parts[start + len(inner) :])
    return None


def is_valid(target: Path, source: Source) -> bool:
    """Say whether `target` holds exactly the task files of the revision: the known ones, else those that the receipt names."""
    try:
        receipt = json.loads((target / RECEIPT).read_bytes())
        known = None if source.generators else source.content
        return receipt["revision"] == source.revision and listing_digest(target) == (known or receipt["content"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def listing_digest(folder: Path, suffix: str = ".json") -> str:
    """Return the SHA-256 of the lines `SHA256  PATH` of all such files below `folder`, as `sha256sum` prints them, ordered by path."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob(f"*{suffix}")}
    lines = [f"{sha256_of(files[name])}  {name}\n" for name in sorted(files) if name != RECEIPT]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def git_id(path: Path) -> str:
    """Return the id that git gives a file: SHA-1 of `blob`, its length, a zero byte and its content."""
    with path.open("rb") as file:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        return hashlib.file_digest(file, lambda: digest).hexdigest()
