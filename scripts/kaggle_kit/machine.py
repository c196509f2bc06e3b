"""One run of a notebook on the simulated machine: environment, clean variables, isolation, live progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tqdm import tqdm

from .environment import base_environment, layer, site_packages
from .sandbox import Outcome, isolation, run_limited
from .tree import KaggleTree

RUNNER = Path(__file__).with_name("run_notebook.py")


def notebook_variables(tree: KaggleTree, mode: str, seconds: float, seed: int, preset: str | None) -> dict[str, str]:
    """What the notebook reads where Kaggle sets nothing, and what Kaggle sets in a scored rerun."""
    variables = {"HRM_INPUT": str(tree.input), "HRM_WORKING": str(tree.working), "HRM_HOURS": repr(seconds / 3600), "HRM_SEED": str(seed)}
    variables["HRM_CARDS"] = "0"  # none is missed here
    if preset:
        variables["HRM_PRESET"] = preset
    if mode == "scored":
        variables["KAGGLE_IS_COMPETITION_RERUN"] = "1"
    else:
        variables["HRM_MODE"] = mode
    return variables


def run_notebook(
    notebook: Path,
    folder: Path,
    variables: Mapping[str, str],
    limit: float,
    *,
    cwd: Path,
    packages: Path | None = None,
    on_line: Callable[[str], None] = tqdm.write,
    on_tick: Callable[[float], None] = lambda _: None,
) -> Outcome:
    """Run `notebook` in a fresh environment below `folder`, leaving `executed.ipynb` there.

    `packages` is the site-packages folder that stands for what Kaggle preinstalls (by default that of the cached base environment).
    Of this process's variables only PATH and the locale reach the notebook: no PYTHONPATH, no pip settings, no keys.
    """
    packages = packages or site_packages(base_environment())
    python = layer(packages, folder / "python")
    home = folder / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("LANG", "LC_ALL", "CUDA_VISIBLE_DEVICES")}
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)])
    environment = {**kept, "PATH": path, "HOME": str(home), "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1", **variables}
    cut = isolation()
    command = [*(cut or ()), str(python), str(RUNNER), *(["--loopback"] if cut else []), str(notebook), str(folder / "executed.ipynb")]
    return run_limited(command, limit, env=environment, cwd=cwd, on_line=on_line, on_tick=on_tick)
