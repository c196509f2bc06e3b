"""The simulated machine: a folder tree like `/kaggle`, and one run of a notebook in it, isolated and with clean variables.

Its Python is a fresh layer for each run over a cached base with only what Kaggle preinstalls. The layer is an empty virtual environment
whose path ends in the base's. The notebook's `pip install` goes there, so that no run sees another's wheel.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.task import Task
from hrm_submit.core.errors import ConfigError

from .competition import Competition
from .dataset import DATASET
from .paths import ROOT
from .processes import Outcome, isolation, run_limited

RUNNER = Path(__file__).with_name("run_notebook.py")
OWNER = "someone"
PACKAGES = ("torch", "numpy", "numba", "pandas", "tqdm", "safetensors", "matplotlib", "ipykernel", "nbclient", "nbformat")
"""What Kaggle preinstalls, and what runs a notebook."""
Layout = Literal["new", "old"]


@dataclass(frozen=True)
class KaggleTree:
    """`input` and `working` as the notebook sees them, and the challenges file that it will answer."""

    input: Path
    working: Path
    challenges: Path


def build_tree(
    folder: Path, competition: Competition, tasks: Mapping[str, Task], dataset: Sequence[Path], layout: Layout = "new"
) -> KaggleTree:
    """Lay out `tasks` both as test and as evaluation tasks, never with a solution, and the files of our dataset."""
    data = folder / "input" / (f"competitions/{competition.slug}" if layout == "new" else competition.slug)
    ours = folder / "input" / (f"datasets/{OWNER}/{DATASET}" if layout == "new" else DATASET)
    working = folder / "working"
    for path in (data, ours, working):
        path.mkdir(parents=True)
    for role in ("test_challenges", "evaluation_challenges"):
        write_challenges(data / competition.files[role], tasks)
    sample = {name: [{"attempt_1": [[0, 0], [0, 0]], "attempt_2": [[0, 0], [0, 0]]} for _ in task.test] for name, task in tasks.items()}
    (data / competition.files["sample_submission"]).write_text(json.dumps(sample), encoding="utf-8")
    for path in dataset:
        shutil.copyfile(path, ours / path.name)
    return KaggleTree(folder / "input", working, data / competition.files["test_challenges"])


def preinstalled() -> Path:
    """The site-packages folder that stands for what Kaggle preinstalls, for the running Python; installed when it is not there yet.

    Raises ConfigError when pip fails.
    """
    lock, cache = ROOT / "requirements.lock", ROOT / ".cache"
    key = "\n".join([sys.version, *PACKAGES, lock.read_text(encoding="utf-8")])
    folder = cache / f"kaggle-python-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--constraint", str(lock), *PACKAGES]
        if subprocess.run(command, stdout=sys.stderr).returncode:
            raise ConfigError("the simulated machine's packages could not be installed; pip's message is above")
        (folder / "complete").touch()
        for old in cache.glob("kaggle-python-*"):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
    return _site_packages(folder)


def _site_packages(environment: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(environment), "platbase": str(environment)}))


def notebook_variables(tree: KaggleTree, mode: str, seconds: float, seed: int, preset: str | None) -> dict[str, str]:
    """What the notebook reads where Kaggle sets nothing, and what Kaggle sets in a scored rerun."""
    variables = {"HRM_INPUT": str(tree.input), "HRM_WORKING": str(tree.working), "HRM_HOURS": repr(seconds / 3600), "HRM_SEED": str(seed)}
    variables["HRM_CARDS"] = "0"  # none is missed here
    if preset:
        variables["HRM_PRESET"] = preset
    return variables | ({"KAGGLE_IS_COMPETITION_RERUN": "1"} if mode == "scored" else {"HRM_MODE": mode})


def run_notebook(
    notebook: Path,
    folder: Path,
    packages: Path,
    variables: Mapping[str, str],
    limit: float,
    *,
    cwd: Path,
    on_text: Callable[[str], object] = lambda text: print(text, end="", flush=True),
) -> Outcome:
    """Run `notebook` in a fresh environment below `folder` over `packages` (`preinstalled`), leaving `executed.ipynb` there.

    Of this process's variables only PATH and the locale reach the notebook: no PYTHONPATH, no pip settings, no keys.
    """
    environment, home = folder / "python", folder / "home"
    venv.create(environment, symlinks=os.name != "nt", with_pip=False)
    # One line of a .pth file: the folder itself comes last on the path, and .pth files inside it (editable installs) are not followed.
    (_site_packages(environment) / "preinstalled.pth").write_text(f"{packages}\n", encoding="utf-8")
    python = environment / "bin" / "python"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("LANG", "LC_ALL", "CUDA_VISIBLE_DEVICES")}
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)])
    own = {**kept, "PATH": path, "HOME": str(home), "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1", **variables}
    cut = isolation()
    command = [*(cut or ()), str(python), str(RUNNER), *(["--loopback"] if cut else []), str(notebook), str(folder / "executed.ipynb")]
    return run_limited(command, limit, env=own, cwd=cwd, on_text=on_text)
