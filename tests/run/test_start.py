"""What `solve` does before it imports anything: fallback answers, the end at the time limit, one run at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.arc.submission import file_faults
from hrm_submit.cli import main
from hrm_submit.core.clock import Clock
from hrm_submit.corpora.sources import load
from hrm_submit.run.options import SolveOptions
from hrm_submit.run.start import INCOMPLETE, LATE, started
from tests.run.lab import challenges, command

FOR_EVER = "import time\ntime.sleep(1000)"
LOCKED_FOR_EVER = "import ctypes\nctypes.PyDLL(None).sleep(1000)"
"""Keeps Python's lock, as the loading of a library does."""


@pytest.mark.parametrize(
    ("numpy", "name", "status"),
    [(FOR_EVER, "challenges.json", LATE), (LOCKED_FOR_EVER, "challenges.json", LATE), (FOR_EVER, "tasks.json", INCOMPLETE)],
)
def test_an_import_that_never_ends_is_ended_at_the_time_limit(tmp_path: Path, numpy: str, name: str, status: int) -> None:
    """The file is valid by then where the challenges have Kaggle's form, and the exit status says whether it is."""
    file, output = challenges(tmp_path, 3), tmp_path / "submission.json"
    tasks = load(file)
    if name != file.name:
        (tmp_path / name).write_text(json.dumps([{"id": k, **v} for k, v in json.loads(file.read_text()).items()]))
    (tmp_path / "numpy.py").write_text(numpy)
    words = command(tmp_path / name, output, "--time-budget", "1s")
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, output.exists()) == (status, status == LATE), done.stderr
    assert status == INCOMPLETE or file_faults(output, tasks) == []
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == (numpy == FOR_EVER)


STUCK = """
import multiprocessing, time
from pathlib import Path
from hrm_submit.core.clock import Clock
from hrm_submit.run.options import SolveOptions
from hrm_submit.run.start import started

if __name__ == "__main__":
    with started(SolveOptions(challenges=Path("none"), output=Path("s.json"), budget=1.0), Clock(1.0)):
        multiprocessing.get_context("spawn").Process(target=time.sleep, args=(1000,)).start()
        time.sleep(1000)
"""


def test_workers_end_with_a_run_at_its_time_limit(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(STUCK)
    # a worker that lived on would keep the pipe open
    done = subprocess.run([sys.executable, "run.py"], stdout=subprocess.PIPE, check=False, timeout=100, cwd=tmp_path)
    assert done.returncode == INCOMPLETE


def test_answers_that_are_complete_stay_and_others_do_not(tmp_path: Path) -> None:
    file, output = challenges(tmp_path, 2), tmp_path / "new" / "folder" / "submission.json"
    options = SolveOptions(challenges=file, output=output, segments=1)
    right = {name: [{"attempt_1": [[5]], "attempt_2": [[6]]} for _ in task.test] for name, task in load(file).items()}
    lacking = {**right, "task01": [{"attempt_1": [[5]]}]}
    for before, kept in ((None, False), (lacking, False), ({**right, "more": []}, False), (right, True), ([], False)):
        if before is not None:
            output.write_text(json.dumps(before))
        with started(options, Clock()) as watchdog:
            assert watchdog.complete and file_faults(output, load(file)) == []
            assert (json.loads(output.read_text()) == before) == kept
    output.write_text("[]")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text('{"challenges_sha256": "of another file"}')
    with started(SolveOptions(challenges=file, output=output, segments=1, run_dir=tmp_path / "other"), Clock()) as watchdog:
        assert not watchdog.complete and output.read_text() == "[]"


@pytest.mark.parametrize("other", ["--output", "--run-dir"])
def test_a_second_run_of_a_folder_or_of_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str) -> None:
    file = challenges(tmp_path, 1)
    paths = {"--output": tmp_path / "new" / "s.json", "--run-dir": tmp_path / "run"}
    shared = next(path for option, path in paths.items() if option != other)
    words = [str(word) for option, path in {**paths, other: tmp_path / "another"}.items() for word in (option, path)]
    options = SolveOptions(challenges=file, output=paths["--output"], run_dir=paths["--run-dir"], segments=1)
    with started(options, Clock()):
        before = paths["--output"].read_bytes()
        assert main(["solve", "--challenges", str(file), *words, "--segments-per-task", "1"]) == 2
        assert capsys.readouterr().err == f"hrm-submit: {shared}: another run works here, process {os.getpid()}\n"
        assert paths["--output"].read_bytes() == before
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["challenges.json", "new", "s.json"], "no lock is left, no empty folder"


def test_a_link_to_the_output_of_another_run_is_refused(tmp_path: Path, refused: Any) -> None:
    file, link = challenges(tmp_path, 1), tmp_path / "link.json"
    link.symlink_to(tmp_path / "s.json")
    words = ["--challenges", str(file), "--output", str(link), "--segments-per-task", "1"]
    with started(SolveOptions(challenges=file, output=tmp_path / "s.json", segments=1), Clock()):
        assert "another run works here" in refused(main, ["solve", *words])
