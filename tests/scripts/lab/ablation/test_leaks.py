"""Answers never enter training: not with its data, not with what is measured on, not with the weights that it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab.ablation import train_run as train_module
from lab.ablation.plan import read_plan
from lab.ablation.runs import Run, plan_runs

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.task import Task, make_grid
from hrm_submit.core.errors import ConfigError
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.model.weights import CheckpointMeta, build, save_checkpoint, snapshot
from hrm_submit.predict import answer as answer_module
from hrm_submit.train.loop import CanvasBatch
from tests.run.lab import recolour, recoloured
from tests.scripts.lab.ablation.lab import folder, runs_of, shown, variants, write_plan, write_tasks


def relabelled(cells: Sequence[Any]) -> tuple[Any, ...]:
    """Grids with their colours named in the order of their appearance."""
    names: dict[int, int] = {}
    return tuple((g.shape, tuple(names.setdefault(int(c), len(names)) for c in g.ravel())) for g in cells)


def forms(given: Any, wanted: Any) -> set[Any]:
    """A pair in all eight orientations, without its colours."""
    turned = [[np.rot90(np.fliplr(g) if mirrored else g, k) for g in (given, wanted)] for k in range(4) for mirrored in (0, 1)]
    return {relabelled(pair) for pair in turned}


def disguised(task: Task, name: str) -> Task:
    """The same task turned and in other colours."""
    table = np.array([0, 4, 5, 6, 1, 2, 3, 7, 8, 9], dtype=np.uint8)
    change = lambda grid: make_grid(table[np.rot90(grid)])  # noqa: E731
    return Task(name, tuple(replace(p, input=change(p.input), output=change(p.output)) for p in task.train), tuple(map(change, task.test)))


def test_no_test_pair_enters_training_whatever_the_data(tmp_path: Path, recorded: list[CanvasBatch]) -> None:
    write_tasks(tmp_path)
    copies = {f"copy{k}": disguised(recolour(f"task{k}", k, outputs=2 if k == 2 else 1), f"copy{k}") for k in range(2)}
    more = {"more": recolour("more", 77)}
    known = {t.id: tuple(recoloured(g, (4, 5, 6)) for g in t.test) for t in copies.values()}
    write_challenges(tmp_path / "mix_challenges.json", {**copies, **more})
    write_solutions(tmp_path / "mix_solutions.json", {**known, "more": tuple(map(recoloured, more["more"].test))})
    (run,) = runs_of(tmp_path, f'examples = 640\ndata = "{tmp_path}/mix_challenges.json,{tmp_path}/little_challenges.json"')
    train_module.train_run(run, folder(tmp_path))

    pairs = {relabelled(pair) for item in recorded for pair in shown(item)}
    tasks = [recolour(f"task{k}", k, outputs=2 if k == 2 else 1) for k in range(3)]
    tests = set().union(*(forms(g, recoloured(g)) for task in tasks for g in task.test))
    demos = set().union(*(forms(p.input, p.output) for task in tasks for p in task.train))
    extra = set().union(*(forms(p.input, p.output) for p in more["more"].train), *(forms(g, recoloured(g)) for g in more["more"].test))
    assert not pairs & tests
    assert len(pairs & demos) > 20 and len(pairs & extra) > 5 and pairs <= demos | extra
    assert run.material.left_out == 2, "the two copies; tasks of the same source are not taken twice"


def held_out(tmp_path: Path, tail: str = variants("base"), head: str = "") -> list[Run]:
    path = write_tasks(tmp_path, 2, "held")
    return runs_of(tmp_path, f"examples = 160\n{head}", f'[evaluate]\nchallenges = "{path}"\n{tail}')


def test_a_set_to_measure_on_that_shares_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not apart: little/task0 shares 4"):
        held_out(tmp_path)


def test_tasks_held_out_start_from_the_mean_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tasks(tmp_path, 2, "held")
    tasks = {f"t{k}": recolour(f"t{k}", 50 + k) for k in range(3)}
    write_challenges(tmp_path / "little_challenges.json", tasks)
    write_solutions(tmp_path / "little_solutions.json", {t.id: tuple(map(recoloured, t.test)) for t in tasks.values()})
    (run,) = held_out(tmp_path)
    rows: list[Any] = []
    real = answer_module.score_views

    def spy(model: Any, embedding: Any, requests: Any, *rest: Any, **options: Any) -> Any:
        rows.append((embedding.rows, embedding.dihedral_rows, {r.row for r in requests}))
        return real(model, embedding, requests, *rest, **options)

    monkeypatch.setattr(answer_module, "score_views", spy)
    trained: list[Any] = []
    real_measure = train_module.measure
    monkeypatch.setattr(train_module, "measure", lambda *given: (trained.append(given[1]), real_measure(*given))[1])
    figures = train_module.train_run(run, folder(tmp_path))
    assert list(figures["results"]) == ["task0", "task1"]
    for table, dihedral, used in rows:
        assert used == {0} and torch.allclose(table, trained[0].rows.mean(0, keepdim=True), atol=1e-6)
        assert torch.equal(dihedral, trained[0].dihedral_rows) and table.abs().sum() > 0


def test_weights_that_were_trained_on_an_answer_are_refused(tmp_path: Path) -> None:
    write_plan(tmp_path)
    plain = plan_runs(read_plan(tmp_path / "plan.toml"))[0]
    model, embedding = build(plain.preset.model)
    hashes = sorted(plain.material.measured.test_hashes())
    for name, held in (("good", ()), ("bad", hashes[1:2])):
        meta = CheckpointMeta(hashes=("00", *held))
        save_checkpoint(tmp_path / f"{name}.safetensors", snapshot(model, embedding, meta))
    more = 'checkpoint = "{}/{}.safetensors"'
    assert runs_of(tmp_path, "examples = 32", variants("a", more=more.format(tmp_path, "good")))[0].key != plain.key
    with pytest.raises(ConfigError, match="trained on 1 of the test pairs"):
        runs_of(tmp_path, "examples = 32", variants("a", more=more.format(tmp_path, "bad")))


def test_a_card_that_says_more_leaves_a_run_what_it_was_and_other_weights_do_not(tmp_path: Path) -> None:
    write_plan(tmp_path)
    plain = plan_runs(read_plan(tmp_path / "plan.toml"))[0].preset.model

    def key(name: str, seed: int, card: dict[str, str]) -> str:
        save_checkpoint(tmp_path / f"{name}.safetensors", snapshot(*build(plain, seed=seed), CheckpointMeta(card=card)))
        more = f'checkpoint = "{tmp_path / name}.safetensors"'
        return runs_of(tmp_path, "examples = 32", variants("a", more=more))[0].key

    assert key("first", 0, {}) == key("second", 0, {"note": "measured since"}) != key("third", 1, {})
