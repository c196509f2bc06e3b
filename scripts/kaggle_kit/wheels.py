"""Wheels to ship: ours, rebuilt only when the sources changed and checked against Kaggle's image, and those of other packages."""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename

from hrm_submit.core.errors import ConfigError

from .paths import KAGGLE_IMAGE, ROOT

PACKAGE = "hrm_submit"
_BUILD_FILES = ("pyproject.toml", "README.md", "LICENSE")
SHIPPED = (".py", ".toml", ".safetensors", ".css", ".js", ".j2")


def package_files(root: Path) -> Iterator[Path]:
    """Files of the package as the wheel should hold them, relative to `root`."""
    for path in sorted((root / PACKAGE).rglob("*")):
        if path.is_file() and (path.suffix in SHIPPED or path.name == "py.typed"):
            yield path.relative_to(root)


def is_current(wheel: Path, root: Path = ROOT) -> bool:
    """Whether `wheel` holds exactly the package as it is now, and is no older than what else it was built from."""
    if any((root / name).stat().st_mtime > wheel.stat().st_mtime for name in _BUILD_FILES):
        return False
    try:
        with zipfile.ZipFile(wheel) as archive:
            held = {name: archive.read(name) for name in archive.namelist() if name.startswith(f"{PACKAGE}/")}
    except (OSError, zipfile.BadZipFile):
        return False
    return held == {path.as_posix(): (root / path).read_bytes() for path in package_files(root)}


def build_wheel(folder: Path, root: Path = ROOT) -> Path:
    """The one wheel of ours in `folder`, built anew unless it is current. Raises ConfigError with the builder's last words."""
    old = sorted(folder.glob(f"{PACKAGE}-*.whl"))
    if len(old) == 1 and is_current(old[0], root):
        return old[0]
    with tempfile.TemporaryDirectory() as temporary:
        # A clean copy: setuptools reuses a `build/` folder, from which deleted files would still enter the wheel.
        copy, out = Path(temporary, "source"), Path(temporary, "dist")
        for path in [*map(Path, _BUILD_FILES), *package_files(root)]:
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / path, copy / path)
        isolation = ["--no-build-isolation"] if _has_setuptools() else []  # with isolation pip downloads setuptools each time
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", *isolation, "--wheel-dir", str(out), str(copy)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600"}  # one set of sources gives one file, byte for byte
        result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=temporary)
        built = list(out.glob("*.whl"))
        if result.returncode or len(built) != 1:
            raise ConfigError(f"the wheel could not be built: {' '.join((result.stdout + result.stderr).split())[-500:]}")
        folder.mkdir(parents=True, exist_ok=True)
        for stale in old:
            stale.unlink()
        return Path(shutil.copy(built[0], folder / built[0].name))


def repack(name: str, folder: Path) -> Path:
    """The wheel of the installed pure Python package `name`, put together again from its files; no network is needed.

    Raises ConfigError where it is not installed, or not from a py3-none-any wheel.
    """
    try:
        installed = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ConfigError(f"{name} is not installed here, so it cannot be shipped: make setup") from None
    if "Tag: py3-none-any" not in (installed.read_text("WHEEL") or ""):
        raise ConfigError(f"{name} is not installed from a pure Python wheel, so it cannot be shipped")
    record = f"{name}-{installed.version}.dist-info/RECORD"
    left_out = (record, f"{Path(record).parent}/INSTALLER")
    kept = [path for path in installed.files or () if ".." not in path.parts and path.suffix != ".pyc" and path.as_posix() not in left_out]
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}-*.whl"):
        old.unlink()
    wheel = folder / f"{name}-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in kept:
            # Without the time of installation one version gives one file, byte for byte.
            archive.writestr(zipfile.ZipInfo(path.as_posix()), path.read_binary(), zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo(record), "".join(f"{path.as_posix()},,\n" for path in kept) + f"{record},,\n")
    return wheel


def _has_setuptools() -> bool:
    try:
        return int(metadata.version("setuptools").split(".")[0]) >= 77  # the first that knows a licence expression
    except metadata.PackageNotFoundError:
        return False


def image_faults(wheel: Path, image: Path = KAGGLE_IMAGE) -> list[str]:
    """What keeps `wheel` from running in Kaggle's image, one line a fault: its platform, Python and each requirement."""
    known = tomllib.loads(image.read_text(encoding="utf-8"))
    faults = []
    tags = {str(tag) for tag in parse_wheel_filename(wheel.name)[3]}
    if tags != {"py3-none-any"}:
        faults.append(f"{wheel.name}: not a pure Python wheel but {', '.join(sorted(tags))}")
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        needs = Parser().parsestr(archive.read(name).decode())
    if known["python"] not in SpecifierSet(needs.get("Requires-Python", "")):
        faults.append(f"{wheel.name}: needs Python {needs['Requires-Python']}, the image has {known['python']}")
    for line in needs.get_all("Requires-Dist", []):
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = known["packages"].get(requirement.name)
        if version is None:
            faults.append(f"{wheel.name}: needs {requirement.name}, of which {image.name} knows no version in the image")
        elif not requirement.specifier.contains(version, prereleases=True):
            faults.append(f"{wheel.name}: needs {requirement}, the image of {known['checked']} has {version}")
    return faults
