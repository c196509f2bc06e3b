"""The Python of the simulated machine: a cached base with only what Kaggle preinstalls, and a fresh layer for each run.

The layer is an empty virtual environment whose path ends in the base's. The notebook's `pip install` goes there, so that no run sees
another's wheel.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from hrm_submit.core.errors import ConfigError

from .paths import CACHE, LOCK

PREINSTALLED = ("torch", "numpy", "numba", "pandas", "tqdm", "safetensors", "matplotlib")
RUNNER = ("ipykernel", "nbclient", "nbformat")


def base_environment(lock: Path = LOCK, cache: Path = CACHE) -> Path:
    """Folder of the base environment for the running Python, at the versions of `lock`; installed when it is not there yet.

    Raises ConfigError when pip fails.
    """
    key = "\n".join([sys.version, *PREINSTALLED, *RUNNER, lock.read_text(encoding="utf-8")])
    folder = cache / f"kaggle-python-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if (folder / "complete").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--constraint", str(lock), *PREINSTALLED, *RUNNER]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise ConfigError("the simulated machine's packages could not be installed; pip's message is above")
    (folder / "complete").touch()
    for old in cache.glob("kaggle-python-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def site_packages(environment: Path) -> Path:
    """Where pip installs into `environment`."""
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(environment), "platbase": str(environment)}))


def layer(packages: Path, folder: Path) -> Path:
    """Python of a new environment in `folder` that also sees what lies in `packages` (a site-packages folder)."""
    venv.create(folder, symlinks=os.name != "nt", with_pip=False)
    # One line of a .pth file: the folder itself comes last on the path, and .pth files inside it (editable installs) are not followed.
    (site_packages(folder) / "preinstalled.pth").write_text(f"{packages}\n", encoding="utf-8")
    return folder / "bin" / "python"
