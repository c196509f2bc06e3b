"""What goes to Kaggle, read and checked before anything is sent: kernel-metadata.json and offline_wheels/, with the owner filled in.

The owner's one place is the `id` of kernel-metadata.json. Its two copies (the kit's own entry of dataset_sources, the `id` of
offline_wheels/dataset-metadata.json) are always derived from it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrm_submit.core.files import write_atomic
from kit.client import ShipError

METADATA = "kernel-metadata.json"
WHEELS = Path("offline_wheels")
DATASET_METADATA = WHEELS / "dataset-metadata.json"
PLACEHOLDER = "your-kaggle-username"


@dataclass(frozen=True)
class Kernel:
    """What kernel-metadata.json says of the notebook: `OWNER/SLUG`, its competition, and the whole object with the owner put in."""

    name: str
    competition: str
    metadata: dict[str, Any]

    @staticmethod
    def read(root: Path, owner: str | None) -> Kernel:
        """Read and check kernel-metadata.json; `owner` replaces the one in it. Raises ShipError, one line."""
        metadata = _read_object(root, METADATA)
        old_owner, slug = _owner_and_slug(metadata.get("id"), METADATA)
        name = owner or old_owner
        if name == PLACEHOLDER:
            raise ShipError(f"{METADATA}: id has no owner yet; give your Kaggle user name once: make push OWNER=you")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ShipError(f"{METADATA}: not a Kaggle user name: {name!r}")
        competitions = metadata.get("competition_sources")
        if not isinstance(competitions, list) or not competitions or not isinstance(competitions[0], str):
            raise ShipError(f"{METADATA}: competition_sources names no competition")
        return Kernel(f"{name}/{slug}", competitions[0], metadata | {"id": f"{name}/{slug}"})


@dataclass(frozen=True)
class Package:
    """A kernel and the dataset that it mounts, with the owner in both; nothing is written yet."""

    root: Path
    kernel: str
    dataset: str
    kernel_text: str
    dataset_text: str

    @staticmethod
    def read(root: Path, owner: str | None) -> Package:
        """Read and check both metadata files and that the notebook is there. Raises ShipError, one line."""
        kernel = Kernel.read(root, owner)
        code = kernel.metadata.get("code_file")
        if not isinstance(code, str) or not (root / code).is_file():
            raise ShipError(f"{METADATA}: code_file: no such file: {code}")
        metadata = _read_object(root, str(DATASET_METADATA), hint="; make wheels writes it")
        _, slug = _owner_and_slug(metadata.get("id"), str(DATASET_METADATA))
        dataset = f"{kernel.name.split('/')[0]}/{slug}"
        sources = kernel.metadata.get("dataset_sources")
        if not isinstance(sources, list) or not any(_slug(source) == slug for source in sources):
            raise ShipError(f"{METADATA}: dataset_sources lacks {dataset}, the dataset of {WHEELS}/")
        # Only the kit's own dataset follows the owner: a data set borrowed from another user keeps its name.
        filled = [dataset if _slug(source) == slug else source for source in sources]
        return Package(root, kernel.name, dataset, dump(kernel.metadata | {"dataset_sources": filled}), dump(metadata | {"id": dataset}))

    def check_wheels(self) -> list[str]:
        """Names of the files that the dataset will hold. Raises ShipError where the notebook could not install from them."""
        entries = sorted((self.root / WHEELS).iterdir())
        folders = [entry.name for entry in entries if entry.is_dir()]
        if folders:
            raise ShipError(f"{WHEELS}: the Kaggle client skips folders, keep it flat: {', '.join(folders)}")
        if not any(entry.suffix == ".whl" for entry in entries):
            raise ShipError(f"{WHEELS}: no wheel; build it with: make wheels")
        return [entry.name for entry in entries if entry.name != DATASET_METADATA.name]

    def write(self) -> None:
        """Put the owner into both files, where it is not there already."""
        for path, text in ((self.root / METADATA, self.kernel_text), (self.root / DATASET_METADATA, self.dataset_text)):
            if path.read_text(encoding="utf-8") != text:
                write_atomic(path, text)


def _read_object(root: Path, name: str, hint: str = "") -> dict[str, Any]:
    try:
        content = json.loads((root / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ShipError(f"{name}: {error.strerror or error}{hint}") from error
    except ValueError as error:
        raise ShipError(f"{name}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ShipError(f"{name}: not a JSON object")
    return content


def _owner_and_slug(identity: object, name: str) -> tuple[str, str]:
    if not isinstance(identity, str) or identity.count("/") != 1 or not all(identity.split("/")):
        raise ShipError(f"{name}: id is not OWNER/SLUG: {identity!r}")
    owner, slug = identity.split("/")
    return owner, slug


def _slug(source: object) -> str:
    return source.split("/")[1] if isinstance(source, str) and source.count("/") else ""


def dump(content: dict[str, Any]) -> str:
    """JSON as the metadata files are written: two spaces, a final newline."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
