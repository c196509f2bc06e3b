"""What was seen of a task on its way: read from run folders, and how well it foretells the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tune_budget
from lab.budget.looks import Look, read_looks
from lab.budget.seen import FEATURES, features, fit_chance, held_out, reliability

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.config.preset_files import load_preset
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.folder import RunWriter
from tests.events import event
from tests.run.lab import recolour, recoloured

TASK = recolour("a", 0, outputs=2)
TRUTH = tuple(map(recoloured, TASK.test))
WRONG = [[9]]
BETA = np.array([-1.0, 2.0, 1.5, 0.5, -1.0, 0.5])


def vote(run: RunWriter, segments: int, exact: float, grids: tuple[list[list[list[int]]], ...], *, final: bool = False) -> None:
    """One vote of eight views: five for the first grid of each output, two for the second."""
    run.event(event("progress", "a", 0, segments=segments, loss=1.0, demo_exact=exact))
    votes = {"segments": segments, "votes": [[5, 2]] * len(grids), "views": 8, "vote_seconds": 0.1}
    run.event(
        event("task_final", "a", 0, seconds=9.0, reason="share used", settled=False, **votes)
        if final
        else event("candidates", "a", 0, **votes)
    )
    for output, two in enumerate(grids):
        run.prediction("a", output, final, map(Candidate.from_json, [{"grid": g, "votes": 5, "score": -0.1} for g in two]))


def test_every_vote_of_every_output_is_a_look(tmp_path: Path) -> None:
    first, second = (grid.tolist() for grid in TRUTH)
    run = RunWriter(tmp_path, lambda: 1.0)
    run.event(event("task_start", "a", 0, seconds=9.0))
    vote(run, 10, 0.25, ([WRONG, WRONG], [second, WRONG]))
    vote(run, 20, 0.5, ([WRONG, first], [second, WRONG]))
    vote(run, 40, 1.0, ([first, WRONG], [WRONG, WRONG]), final=True)
    run.event(event("task_start", "a", 0, seconds=9.0, restart=1))  # a second training is none of the first's looks
    vote(run, 5, 0.0, ([WRONG], [WRONG]), final=True)
    looks = read_looks([tmp_path], {"a": TASK}, {"a": TRUTH})
    of_first, of_second = looks[:3], looks[3:]
    assert [(k.output, k.segments, k.part, k.exact, k.share) for k in of_first] == [
        (0, 10, 0.25, 0.25, 5 / 7),
        (0, 20, 0.5, 0.5, 5 / 7),
        (0, 40, 1.0, 1.0, 5 / 7),
    ]
    assert [(k.right, k.kept) for k in of_first] == [(False, False), (True, True), (True, False)]
    assert [(k.right, k.kept) for k in of_second] == [(True, False), (True, True), (False, False)]
    assert all(k.solved for k in of_first) and not any(k.solved for k in of_second)
    assert {k.cells for k in looks} == {9}


def test_a_lost_training_and_one_whose_predictions_are_torn_are_left_out(tmp_path: Path) -> None:
    grids = ([WRONG], [WRONG])
    run = RunWriter(tmp_path, lambda: 1.0)
    run.event(event("task_start", "a", 0, seconds=9.0))
    run.event(event("progress", "a", 0, segments=3, loss=1.0, demo_exact=0.5))
    run.event(event("task_failed", "a", 0, reason="worker died"))
    assert read_looks([tmp_path], {"a": TASK}, {"a": TRUTH}) == []
    run.event(event("task_start", "a", 0, seconds=9.0))
    vote(run, 10, 0.5, grids, final=True)
    assert len(read_looks([tmp_path], {"a": TASK}, {"a": TRUTH})) == 2
    path = tmp_path / "predictions.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert [k.output for k in read_looks([tmp_path], {"a": TASK}, {"a": TRUTH})] == [0]


def drawn(tasks: int, seed: int = 0) -> list[Look]:
    """Looks, four a task, whose ends are drawn by `BETA`."""
    rng = np.random.default_rng(seed)
    looks = []
    for k in range(tasks):
        cells = int(rng.integers(9, 900))
        for part in (0.1, 0.3, 0.6, 1.0):
            exact, share = rng.random(2)
            looks.append(Look("r", f"t{k}", 0, cells, 9.0, 100, part, exact, share, bool(rng.random() < 0.5), False, False))
    chances = 1 / (1 + np.exp(-features(looks) @ BETA))
    return [replace(look, solved=bool(rng.random() < p)) for look, p in zip(looks, chances, strict=True)]


def test_the_law_by_which_ends_were_drawn_is_found_and_what_is_predicted_comes_true() -> None:
    looks = drawn(3000)
    assert len(FEATURES) == len(BETA)
    assert fit_chance(looks).beta == pytest.approx(BETA, abs=0.25)
    table = reliability(looks, held_out(looks))
    assert table["looks"].sum() == len(looks)
    enough = table[table["tasks"] >= 200]
    assert len(enough) >= 6 and (enough["predicted"] - enough["solved"]).abs().max() < 0.05


def test_a_task_is_never_judged_by_its_own_looks() -> None:
    """Ends that depend on nothing seen: who knew a task's end from its other looks would predict it."""
    rng = np.random.default_rng(1)
    ends = {f"t{k}": bool(rng.random() < 0.5) for k in range(60)}
    looks = [replace(k, solved=ends[k.task], cells=9 + int(k.task[1:])) for k in drawn(60)]
    chances = held_out(looks)
    solved = np.array([k.solved for k in looks])
    assert abs(float(chances[solved].mean() - chances[~solved].mean())) < 0.1


def test_few_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="5 tasks are too few"):
        held_out(drawn(5))


def test_the_command_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunWriter(tmp_path / "run", lambda: 1.0)
    tasks = {f"t{k}": recolour(f"t{k}", k) for k in range(40)}
    truth = {i: (recoloured(t.test[0]),) for i, t in tasks.items()}
    run.describe({"config": load_preset("nano").to_dict(), "devices": ["cpu"]})
    for k, i in enumerate(tasks):
        run.event(event("task_start", i, 0, seconds=9.0))
        run.event(event("progress", i, 0, segments=10, loss=1.0, demo_exact=k / 40, seconds=5.0))
        final = {"segments": 10, "votes": [[8]], "views": 8, "vote_seconds": 0.1, "seconds": 5.1, "settled": False}
        run.event(event("task_final", i, 0, reason="share used", **final))
        run.prediction(i, 0, True, [Candidate.from_json({"grid": truth[i][0].tolist() if k > 20 else WRONG, "votes": 8, "score": -0.1})])
    write_challenges(tmp_path / "c.json", tasks)
    write_solutions(tmp_path / "s.json", truth)
    files = ["--runs", str(tmp_path / "run"), "--challenges", str(tmp_path / "c.json"), "--time-budget", "1m"]
    picture = tmp_path / "r.svg"
    asked = [*files, "--reliability", str(picture)]
    assert tune_budget.main([*asked, "--solutions", str(tmp_path / "s.json")]) == 0
    said = capsys.readouterr().out
    assert "predicted" in said and "demonstrations exact +" in said and picture.read_text().startswith("<?xml")
    assert tune_budget.main(asked) == 2 and "needs --solutions" in capsys.readouterr().err
