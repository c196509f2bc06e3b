"""FIFOs, devices and folders where files should be: one line and exit 2; none is waited for, read without end, or replaced."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from hrm_submit.cli import main
from tests.shared import RECORDED

SOLVE = "solve --challenges {challenges} --output {submission} --run-dir {run} --devices cpu --segments-per-task 1"
REPORT, MERGE = "report --run-dir {run} --output {html}", "merge {run} --output {merged}"
RUN = (REPORT, MERGE, "show --run-dir {run}")
COMMANDS = {
    "challenges": (SOLVE, MERGE, "validate --submission {html} --challenges {challenges}", "show --dataset {challenges} --task x"),
    "events": (SOLVE, "watch --run-dir {run} --once", *RUN),
    "predictions": RUN,
    "preset": (SOLVE + " --preset {preset}",),
    "weights": (SOLVE + " --checkpoint {weights}",),
    "submission": (SOLVE, "score --submission {submission} --solutions {challenges}", "merge {submission} --output {merged}"),
    "merged": (MERGE,),
    "html": (REPORT,),
    "solutions": (REPORT + " --solutions {solutions}",),
}


@pytest.mark.timeout(100)
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
@pytest.mark.parametrize("which", COMMANDS)
def test_what_is_no_regular_file_is_refused(which: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(RECORDED / "run", tmp_path / "run")
    names = {"events": "run/events.jsonl", "predictions": "run/predictions.jsonl", "preset": "mine.toml", "weights": "w.safetensors"}
    places = {name: tmp_path / names.get(name, f"{name}.json") for name in (*COMMANDS, *names)} | {"run": run}
    shutil.copy(RECORDED / "challenges.json", places["challenges"])
    described = run / "run.json"
    described.write_text(described.read_text().replace('"challenges":', f'"challenges": "{places["challenges"]}", "was":'))
    places[which].unlink(missing_ok=True)
    make = {"fifo": os.mkfifo, "folder": Path.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}
    make[kind](places[which])
    mode = stat.S_IFMT(places[which].lstat().st_mode)
    if which == "challenges":
        assert main(REPORT.format(**places).split()) == 0 and "no demonstrations are shown" in capsys.readouterr().err
    for command in COMMANDS[which]:
        assert main(command.format(**places).split()) == 2, command
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert stat.S_IFMT(places[which].lstat().st_mode) == mode
