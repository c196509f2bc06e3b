"""Planning ahead: what run folders tell, runs that are only simulated, and the command that does both."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tune_budget
from lab.budget_recording import Outcome, SolvedCurve, fit_curve, record
from lab.budget_replay import replay

from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.submission import file_faults
from hrm_submit.arc.task import make_grid
from hrm_submit.config.preset_files import load_preset
from hrm_submit.core.errors import SolveError
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.corpora.sources import load
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.folder import RunWriter, read_run
from hrm_submit.run.cost import segment_work, view_work
from tests.events import event, told
from tests.run.lab import recolour, recoloured

TRUTH = SolvedCurve(np.array([-1.0, 0.8, -0.6]), np.zeros((3, 3)))
PRESET = load_preset("nano")
TASKS = {f"t{k}": recolour(f"t{k}", k, side=3 + k % 3) for k in range(6)}
SOLUTIONS: dict[str, Any] = {task_id: (recoloured(task.test[0]),) for task_id, task in TASKS.items()}
SEGMENT, VIEW, OVERHEAD = 1e9, 2e9, 0.01
"""Operations a second, in segments and in views, and seconds that a segment takes besides, of the device that is recorded."""


def drawn(n: int, seed: int = 0) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    segments, cells = rng.integers(10, 1500, n), rng.integers(9, 900, n)
    solved = rng.random(n) < TRUTH.chances(segments, cells)
    return [Outcome(f"t{k // 2}", int(segments[k]), int(cells[k]), bool(solved[k])) for k in range(n)]


def test_chances_by_hand_and_a_known_curve_is_found_again() -> None:
    curve = SolvedCurve(np.array([0.0, 1.0, -1.0]), np.zeros((3, 3)))
    assert curve.chances([0, 100, 300, 100], [100, 100, 100, 300]) == pytest.approx([0.0, 0.5, 0.75, 0.25])
    assert fit_curve([]) is None and fit_curve([Outcome("t", 0, 9, True)]) is None, "without data there is no curve"
    found, points = fit_curve(drawn(20000)), ([50, 200, 1000], [100, 400, 25])
    assert found is not None and found.chances(*points) == pytest.approx(TRUTH.chances(*points), abs=0.02)


@pytest.mark.parametrize(("solved", "share"), [((True, True), 1.0), ((False, False), 0.0), ((True, False), 0.5)])
def test_runs_of_one_budget_leave_the_prior_of_what_more_time_gives(solved: tuple[bool, bool], share: float) -> None:
    found = fit_curve([Outcome(f"t{k}", 100, 100, solved[k % 2]) for k in range(40)])
    assert found is not None and found.chances([100], [100]) == pytest.approx([share], abs=0.01)
    assert share != 0.5 or found.beta[1:] == pytest.approx([0.5, -0.5], abs=0.01)


def test_nineteen_of_twenty_runs_are_within_the_interval() -> None:
    """Forty recordings, each used to predict another run of the same kind."""
    rng, within = np.random.default_rng(1), 0
    segments, cells = rng.integers(50, 800, 60), rng.integers(25, 400, 60)
    for k in range(40):
        curve = fit_curve(drawn(160, seed=k))
        assert curve is not None
        share, low, high = curve.predict(segments, cells, seed=k)
        assert low <= share <= high
        within += bool(low <= np.mean(rng.random(60) < TRUTH.chances(segments, cells)) <= high)
    assert within >= 35


CELLS = {task_id: max(g.shape[0] for g in task.grids()) ** 2 for task_id, task in TASKS.items()}
SEGMENT_SECONDS = {task_id: OVERHEAD + segment_work(PRESET.model, PRESET.ttt, cells) / SEGMENT for task_id, cells in CELLS.items()}
VIEW_SECONDS = {task_id: view_work(PRESET.model, cells, PRESET.vote.act_steps) / VIEW for task_id, cells in CELLS.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder written by hand: six tasks one after the other on one worker, each for 100 segments and two votes."""
    now = [0.0]
    run = RunWriter(tmp_path / "run", lambda: now[0])
    run.describe({"config": PRESET.to_dict(), "devices": ["cpu"]})
    run.event(event("run_start", budget=300.0, tasks=6, broken=[], resumed=0))
    run.event(event("worker_start", worker=0, device="cpu"))
    now[0] = 3.0
    run.event(event("worker_start", worker=0, ready=True))
    for number, task_id in enumerate(TASKS):
        segment, view = SEGMENT_SECONDS[task_id], VIEW_SECONDS[task_id]
        run.event(event("task_start", task_id, 0, seconds=50.0))
        run.event(event("progress", task_id, 0, segments=40, loss=1.0, demo_exact=0.5, seconds=40 * segment))
        run.event(event("candidates", task_id, 0, segments=40, votes=[[8]], views=8, vote_seconds=8 * view))
        run.event(event("progress", task_id, 0, segments=100, loss=0.5, demo_exact=1.0, seconds=100 * segment))
        took = 0.25 + 100 * segment + 40 * view
        now[0] += took
        reason = "votes agree" if number % 2 else "share used"
        final = {"segments": 100, "votes": [[32]], "views": 32, "vote_seconds": 32 * view, "seconds": took, "settled": bool(number % 2)}
        run.event(event("task_final", task_id, 0, reason=reason, **final))
        # The second candidate of t1 is right, the first of t0, and none of the others.
        grids = [SOLUTIONS[task_id][0], make_grid([[0]]), make_grid([[1]])][:: -1 if number else 1]
        run.prediction(task_id, 0, True, [Candidate(g, 12 - k, -0.1) for k, g in enumerate(grids[1:] if number == 1 else grids)])
    return tmp_path / "run"


def test_a_recording_gives_back_what_was_written_and_predicts_scores_up_to_twice_its_training(folder: Path) -> None:
    (found,) = record([folder], TASKS, SOLUTIONS)
    (model,) = found.models.values()
    for task_id, cells in CELLS.items():
        segment, view = segment_work(PRESET.model, PRESET.ttt, cells), view_work(PRESET.model, cells, PRESET.vote.act_steps)
        assert model.segment.seconds(segment) == pytest.approx(SEGMENT_SECONDS[task_id], rel=1e-6)
        assert model.view.seconds(view) == pytest.approx(VIEW_SECONDS[task_id], rel=1e-6)
    assert found.start_ups == [3.0] and found.set_ups == pytest.approx([0.25] * 6, abs=0.01)
    assert sorted(model.settled_after, key=str) == [100, 100, 100, None, None, None]
    assert found.outcomes == [Outcome(task_id, 100, cells, task_id in ("t0", "t1")) for task_id, cells in CELLS.items()]
    tasks = list(TASKS.values())
    score = found.score(tasks, dict.fromkeys(TASKS, 100.0))
    assert score is not None and score[0] == pytest.approx(1 / 3, abs=0.02) and score[1] <= score[0] <= score[2]
    assert found.score(tasks, dict.fromkeys(TASKS, 199.0)) and not found.score(tasks, dict.fromkeys(TASKS, 201.0))
    (without,) = record([folder, folder], TASKS)
    assert without.score(tasks, dict.fromkeys(TASKS, 100.0)) is None and len(without.set_ups) == 12
    with pytest.raises(SolveError, match="recorded no finished task"):
        record([folder], {"other": TASKS["t0"]})


def test_a_simulated_run_keeps_what_a_real_one_promises_and_trains_as_long_as_a_share_has_time(folder: Path, tmp_path: Path) -> None:
    (found,) = record([folder], TASKS)
    target = tmp_path / "played"
    target.mkdir()
    played = replay(found, found.preset, list(TASKS.values()), ["cpu", "cpu"], 300.0, target, seed=1)
    assert 0.9 * 300 <= played.events[-1].t <= 300 and played.events[-1].kind == "run_end"
    write_challenges(tmp_path / "c.json", TASKS)
    assert not file_faults(target / "submission.json", load(tmp_path / "c.json"))
    assert {e["task"] for e in told(played, "task_final")} == set(TASKS) and not told(played, "task_failed")

    found.models["random"].settled_after = [None]
    played = replay(found, found.preset, [TASKS["t0"]], ["cpu"], 103.0, tmp_path)
    (start,), (final,) = told(played, "task_start"), told(played, "task_final")
    trained = start["seconds"] - found.set_ups[0] - 9 * 8 * 1e-3
    assert final["segments"] == pytest.approx(trained / SEGMENT_SECONDS["t0"], rel=0.03)


def test_each_of_several_models_keeps_its_own_speed_and_trains_what_it_would(tmp_path: Path) -> None:
    run = RunWriter(tmp_path / "run", lambda: 0.0)
    tables = PRESET.to_dict()
    config = {"model": tables["model"], "vote": tables["vote"], "ttt": tables["ttt"] | {"min_side": 4, "max_side": 30}}
    members = [{"name": name, "config": config} for name in ("two", "idle")]
    run.describe({"config": tables, "checkpoint": "/x/one.safetensors", "members": members})
    for number, task_id in enumerate(TASKS):
        run.event(event("task_start", task_id, 0, seconds=50.0))
        for member, segments, now in (("one", 50, 50.0), ("two", 70, 90.0)):
            run.event(event("progress", task_id, 0, segments=segments, loss=1.0, demo_exact=0.5, seconds=now, member=member))
            run.event(event("candidates", task_id, 0, segments=segments, votes=[[8]], views=8, vote_seconds=now / 100, member=member))
        reason = "votes agree" if number else "time used"
        final = {"segments": 80, "votes": [[8]], "views": 8, "vote_seconds": 1.0, "seconds": 100.0, "settled": bool(number)}
        run.event(event("task_final", task_id, 0, reason=reason, member="two", **final))
    (found,) = record([tmp_path / "run"], TASKS)
    works = [segment_work(PRESET.model, PRESET.ttt, side * side) for side in (3, 4, 5)]
    seconds = [[m.segment.seconds(w) for w in works] for m in found.models.values()]
    assert seconds == [pytest.approx([s] * 3, rel=1e-3) for s in (1.0, 2.0, 1.0)], "as fast as the first where none was recorded"
    assert [m.settled_after for m in found.models.values()] == [[None] * 6, [None, 30, 30, 30, 30, 30], []]
    del found.models["idle"]
    played = replay(found, found.preset, [TASKS["t0"], TASKS["t1"]], ["cpu"], 400.0, tmp_path)
    trained = {(e["task"], e["member"]) for e in told(played, "progress")}
    assert trained == {("t0", "one"), ("t1", "one"), ("t1", "two")}


@pytest.fixture
def files(folder: Path, tmp_path: Path) -> list[str]:
    write_challenges(tmp_path / "c.json", TASKS)
    write_solutions(tmp_path / "s.json", SOLUTIONS)
    return ["--runs", str(folder), "--challenges", str(tmp_path / "c.json")]


def test_the_command_compares_settings_and_says_where_its_record_ends(
    files: list[str], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_budget, "FEWEST", 1)
    out, answers = tmp_path / "best.toml", ["--solutions", str(tmp_path / "s.json")]
    options = ["--vary", "vote.views=8,64", "--output", str(out)]
    assert tune_budget.main([*files, "--time-budget", "40s", *answers, *options]) == 0
    said = capsys.readouterr().out
    assert "views=8" in said and "views=64" in said and "best by predicted score" in said and "no score" not in said
    assert len([line for line in said.splitlines() if "views=" in line and "s " in line]) == 2 * 3, "two settings at three budgets"
    best = tomllib.loads(out.read_text())["vote"]["views"]
    assert best in (8, 64) and load_preset(f"nano,{out}").vote.views == best
    assert tune_budget.main([*files, "--time-budget", "3h", *answers]) == 0
    said = capsys.readouterr().out
    assert "\nno score is predicted beyond twice the recorded training, 200 segments a task" in said
    solved = [line.split()[1] for line in said.splitlines()[2:7]]
    assert solved == ["0.0"] * 4 + ["33.3"], "its only predictions came at the end, two of six are right"
    assert "best by segments a task (no scores): as recorded" in said


def test_few_outputs_give_an_interval_and_a_tie_keeps_what_was_recorded(files: list[str], tmp_path: Path, capsys: Any) -> None:
    answers = ["--solutions", str(tmp_path / "s.json"), "--vary", "vote.views=33,32"]
    assert tune_budget.main([*files[:2], "--time-budget", "40s", *answers]) == 2, "run.json names no challenges here"
    capsys.readouterr()
    assert tune_budget.main([*files, "--time-budget", "40s", *answers]) == 0
    said = capsys.readouterr().out
    assert "best by segments a task (too few recorded outputs for scores): views=32" in said
    header = next(line for line in said.splitlines() if "low" in line)
    assert "high" in header and "score" not in header
    record_of = read_run(Path(files[1])).run | {"challenges": files[3]}
    Path(files[1], "run.json").write_text(json.dumps(record_of))
    assert tune_budget.main([*files[:2], "--time-budget", "40s", *answers]) == 0


def test_another_card_is_planned_by_an_estimate_that_says_so(files: list[str], tmp_path: Path, capsys: Any) -> None:
    def segments(profile: str) -> tuple[float, str]:
        out = tmp_path / f"{profile}.toml"
        assert tune_budget.main([*files, "--time-budget", "40s", "--profile", profile, "--output", str(out)]) == 0
        said = capsys.readouterr()
        return float(out.read_text().split(":")[1].split()[0]), said.err + out.read_text()

    fast, slow, here = segments("h100"), segments("rtx-pro-6000"), segments("cpu")
    assert "an estimate: no run was recorded on this card (H100)" in fast[1] and "an estimate" not in here[1]
    assert fast[0] >= slow[0] > here[0], "one card each; here a device of 10^9 operations a second was recorded"
    (tmp_path / "odd.toml").write_text('[device]\ncard = "ODD"\ncount = 1\nmemory_gib = 10.0\ncapability = 9.0\n')
    assert tune_budget.main([*files, "--time-budget", "40s", "--profile", str(tmp_path / "odd.toml")]) == 2
    assert "its rate is not known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--vary", "ttt.lr=1"], "other tables need runs of their own"),
        (["--vary", "vote.views=x"], "write it as budget.size_power=0,0.5"),
        (["--profile", "nonsense"], "nonsense"),
        (["--max-side", "1"], "no task fits"),
    ],
)
def test_bad_input_is_one_line(files: list[str], refused: Any, options: list[str], fault: str) -> None:
    assert fault in refused(tune_budget.main, [*files, "--time-budget", "1m", *options])
