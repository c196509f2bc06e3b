"""Run the notebook in a simulated machine over this interpreter's packages, with a wheel and inputs that can be broken at will.

The stand-in wheel has the command line of the real one and answers every output with one known grid, so that a test can tell
an answer of solve from a guess of the notebook. Its `fault` decides what goes wrong.
"""

import json
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaggle_kit.competition import load_competition
from kaggle_kit.machine import KaggleTree, Layout, build_tree, notebook_variables, run_notebook
from kaggle_kit.paths import NOTEBOOKS
from kaggle_kit.processes import Outcome

from hrm_submit.arc.submission import file_faults
from hrm_submit.arc.task import Pair, Task, make_grid

NOTEBOOK = NOTEBOOKS / "submission.ipynb"
PACKAGES = Path(sysconfig.get_path("purelib"))
SOLVED = [[7, 7], [7, 7]]

TASKS = {
    "aaaa0001": Task(
        "aaaa0001", (Pair(make_grid([[1, 2]]), make_grid([[2, 1]])), Pair(make_grid([[3, 4]]), make_grid([[4, 3]]))), (make_grid([[5, 6]]),)
    ),
    "aaaa0002": Task("aaaa0002", (Pair(make_grid([[1], [2]]), make_grid([[0]])),), (make_grid([[5]]), make_grid([[6, 6, 6]]))),
}

STUB = """
import argparse, json, os, pathlib, subprocess, sys, time
FAULT = {fault!r}
def answer(options, ids):
    tasks = json.load(open(options.challenges))
    old = json.load(open(options.output))
    solved = {{"attempt_1": {solved}, "attempt_2": {solved}}}
    new = {{i: [solved for _ in tasks[i]["test"]] if i in ids else old[i] for i in tasks}}
    pathlib.Path(options.output).write_text(json.dumps(new))
    pathlib.Path(options.run_dir, "predictions.jsonl").touch()
parser = argparse.ArgumentParser()
parser.add_argument("command")
names = "challenges output checkpoint devices seed preset run-dir time-budget submission solutions html"
for name in names.split():
    parser.add_argument("--" + name)
options = parser.parse_args()
if options.command in ("report", "show"):
    if FAULT == "slow page":
        time.sleep(600)
    if FAULT == "no page":
        sys.exit("TypeError: a page cannot be made")
    pathlib.Path(options.output or options.html).write_text("<p>" + json.dumps(vars(options)) + "</p>")
if options.command == "score":
    print(json.dumps({{"pass@2": 0.5, "solutions": pathlib.Path(options.solutions).name}}))
if options.command != "solve":
    sys.exit(0)
run = pathlib.Path(options.run_dir)
run.mkdir(exist_ok=True)
with (run / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(vars(options)) + "\\n")
ids = list(json.load(open(options.challenges)))
print("stub: solving", len(ids), "tasks", file=sys.stderr)
if FAULT == "checkpoint" and options.checkpoint not in (None, "none"):
    sys.exit("weights.safetensors: truncated")
if FAULT == "preset" and options.preset and options.checkpoint != "none":
    sys.exit("[solve] members: no weights")
if FAULT == "gpu" and options.devices == "auto":
    answer(options, ids[:1])
    os.abort()
if FAULT == "hang":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    time.sleep(600)
if FAULT in ("half", "garbage"):
    half = json.dumps({{ids[0]: [{{"attempt_1": {solved}, "attempt_2": [[1], [1, 2]]}}]}})
    pathlib.Path(options.output).write_text(half if FAULT == "half" else half[:6])
    sys.exit(0)
if FAULT == "gpu":
    assert json.load(open(options.output))[ids[0]][0]["attempt_1"] == {solved}
answer(options, ids)
"""


def wheel(folder: Path, package: str, files: Mapping[str, str], requirements: Sequence[str] = ()) -> Path:
    """A wheel of a package with these files."""
    info = f"{package}-0.0.1.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requirements)
    about = {"METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.0.1\nRequires-Python: >=3.11\n{needs}"}
    about["WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    whole = {f"{package}/{name}": text for name, text in files.items()} | {f"{info}/{name}": text for name, text in about.items()}
    path = folder / f"{package}-0.0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in whole.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*whole, f"{info}/RECORD")))
    return path


def stub_wheel(folder: Path, fault: str = "", requirements: Sequence[str] = ()) -> Path:
    """A wheel named like ours, with the command line of ours."""
    first = 'raise ImportError("torch is not what it was")\n' if fault == "import" else ""
    files = {"__init__.py": first, "__main__.py": STUB.format(fault=fault, solved=SOLVED)}
    return wheel(folder, "hrm_submit", files, requirements)


@dataclass(frozen=True)
class Run:
    outcome: Outcome
    output: str
    tree: KaggleTree
    challenges: Mapping[str, Task]
    folder: Path

    @property
    def submission(self) -> dict[str, list[dict[str, list[list[int]]]]]:
        return json.loads((self.tree.working / "submission.json").read_text())

    @property
    def faults(self) -> list[str]:
        return file_faults(self.tree.working / "submission.json", self.challenges)

    @property
    def solved(self) -> list[bool]:
        """For each test output, whether solve's answer stands there."""
        return [entry["attempt_1"] == SOLVED for answers in self.submission.values() for entry in answers]

    @property
    def degraded(self) -> str:
        return "".join(log.read_text() for log in self.tree.working.glob("degraded.log"))

    @property
    def report(self) -> dict[str, str] | None:
        """The options with which the stand-in made report.html; None where it is not there."""
        path = self.tree.working / "report.html"
        return json.loads(path.read_text().removeprefix("<p>").removesuffix("</p>")) if path.exists() else None

    @property
    def displayed(self) -> list[str]:
        """The HTML that the executed notebook shows."""
        cells = json.loads((self.folder / "executed.ipynb").read_text())["cells"]
        data = [output["data"] for cell in cells for output in cell.get("outputs", ()) if output["output_type"] == "display_data"]
        return ["".join(shown["text/html"]) for shown in data if "text/html" in shown]

    @property
    def calls(self) -> list[dict[str, str]]:
        path = self.tree.working / "run" / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def lay_out(folder: Path, dataset: list[Path], layout: Layout = "new", tasks: Mapping[str, Task] = TASKS) -> KaggleTree:
    return build_tree(folder / "kaggle", load_competition(), tasks, dataset, layout)


def run(
    folder: Path,
    tree: KaggleTree,
    mode: str = "scored",
    seconds: float = 120.0,
    tasks: Mapping[str, Task] = TASKS,
    variables: Mapping[str, str] | None = None,
    notebook: Path = NOTEBOOK,
) -> Run:
    output: list[str] = []
    merged = notebook_variables(tree, mode, seconds, seed=0, preset=None) | dict(variables or {})
    outcome = run_notebook(notebook, folder, PACKAGES, merged, seconds + 60, cwd=tree.working, on_text=output.append)
    return Run(outcome, "".join(output), tree, tasks, folder)
