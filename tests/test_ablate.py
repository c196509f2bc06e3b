"""Comparing variants: what a plan may say, that answers never enter training, what is done again, and how sure a table is."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.solutions import write_solutions
from hrm_submit.arc.task import Task, make_grid
from hrm_submit.core.errors import ConfigError
from hrm_submit.model.weights import CheckpointMeta, build, load_checkpoint, save_checkpoint, snapshot
from hrm_submit.plan.cost import segment_work
from hrm_submit.predict.vote import Candidate
from hrm_submit.train.loop import CanvasBatch, Trainer
from tests.solve.lab import TINY_MODEL, recolour, recoloured

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import ablate
from kit.ablation import measure as measure_module
from kit.ablation import train_run as train_module
from kit.ablation import ttt_run as ttt_module
from kit.ablation.crew import execute, run_all, run_folder
from kit.ablation.measure import mark
from kit.ablation.plan import read_plan
from kit.ablation.results import append, read
from kit.ablation.runs import Run, plan_runs
from kit.ablation.table import difference, interval, markdown, parse_marks, summary
from kit.ablation.tasks import choose
from kit.comparison import raw_files, read_tasks

ROOT = Path(__file__).parent.parent
MODEL = TINY_MODEL.removeprefix("\n[model]\n").strip().replace("\n", ", ")
RATES = 'optimizer = "muon", lr = 3e-3, muon_lr = 1e-2, batch_size = 16, segments = 1, warmup_steps = 5'
RULES = 'decay_fraction = 0.5, lr_min_ratio = 0.05, augmentations = 60, colours = "fixed", translate = false'
BASE = """
[base]
model = {{ {model} }}
{table} = {{ {rates}, {rules} }}
vote = {{ views = 8, act_steps = 1, batch_size = 16 }}
device.dtype = "float32"
"""


def write_tasks(folder: Path, n: int = 3, name: str = "little") -> Path:
    """Recolouring tasks of side 3, the last one with two test inputs, and their solutions."""
    tasks = {f"task{k}": recolour(f"task{k}", k, outputs=2 if k == n - 1 else 1) for k in range(n)}
    write_challenges(folder / f"{name}_challenges.json", tasks)
    write_solutions(folder / f"{name}_solutions.json", {t.id: tuple(map(recoloured, t.test)) for t in tasks.values()})
    return folder / f"{name}_challenges.json"


def write_plan(folder: Path, head: str = "examples = 320", tail: str = '[[variant]]\nname = "base"\n', kind: str = "train") -> Path:
    """A plan over `write_tasks`; `head` comes before the tables, `tail` after them."""
    challenges, path = folder / "little_challenges.json", folder / "plan.toml"
    if not challenges.exists():
        write_tasks(folder)
    base = BASE.format(model=MODEL, table=kind, rates=RATES, rules=RULES)
    path.write_text(f'kind = "{kind}"\nseeds = [0]\n{head}\n[tasks]\nchallenges = "{challenges}"\n{base}\n{tail}')
    return path


def runs_of(folder: Path, *arguments: str, **options: str) -> list[Run]:
    return plan_runs(read_plan(write_plan(folder, *arguments, **options)))


def variants(*names: str, more: str = "") -> str:
    return "".join(f'[[variant]]\nname = "{name}"\n{more}\n' for name in names)


# What a plan may say


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('kind = "train"', 'kind = "tain"', "one of 'train', 'ttt'"),
        ('kind = "train"', "", "should say kind"),
        ("examples = 320", "examples = 320\nseconds = 5", "not seconds and examples"),
        ("examples = 320", "", "exactly one of seconds, flops, examples"),
        ("examples = 320", "seconds = -1", "above 0"),
        ("examples = 320", "examples = 320\nsedes = [1]", "'sedes'"),
        ("seeds = [0]", "seeds = [0, 0]", "different whole numbers"),
        ("examples = 320", 'examples = 320\ndevice = "cuda:0"', "CPU seconds tell nothing"),
        ("examples = 320", 'examples = 320\nclock = "wall"\ndevice = "cuda:77"', "no cuda:77 here"),
        ("[tasks]", "[tasks]\nmax_side = 2", "0 tasks of side 2 or less"),
        ("[tasks]", "[tasks]\nnumber = 4", "3 tasks of side 30 or less"),
        ("[tasks]", '[tasks]\nids = ["task9"]', "no task task9"),
        ("[tasks]", '[tasks]\nids = ["task1"]\nnumber = 1', "either lists ids or"),
        ("[tasks]", '[tasks]\ndata = "arc-agi-1-training"', "either data or challenges"),
        ("challenges = ", "# ", "needs [tasks]"),
        ("little_challenges.json", "none_challenges.json", "no such file"),
        ("[base]", "[base]\nmodle.hidden_size = 3", "'modle'"),
        ("[base]", "[base]\nttt.lr = 1.0", "does not look"),
        ('name = "base"', "", "needs a name"),
        ('name = "base"', 'name = "a,b"', "comma"),
        ('name = "base"', 'name = "base"\ntrain.learning_rate = 1.0', "'learning_rate'"),
        ('name = "base"', 'name = "base"\nmodel.num_heads = 5', "not a multiple"),
        ('name = "base"', 'name = "base"\nmodel.seq_len = 100', "too small for ARC"),
        ('name = "base"', 'name = "base"\ntrain.max_side = 2', "leaves out 3 of the tasks"),
        ('name = "base"', 'name = "base"\nlike = "other"', "no variant before it"),
        ('name = "base"', 'name = "base"\namount_factor = 0', "amount_factor"),
        ('name = "base"', 'name = "base"\npreset = "pico"', "pico"),
        ('name = "base"', 'name = "base"\ncheckpoint = "absent.safetensors"', "absent.safetensors"),
        ('name = "base"', 'name = "base"\ndata = "nothing"', "unknown data 'nothing'"),
        ('name = "base"', 'name = "base"\n[[variant]]\nname = "base"', "not again 'base'"),
    ],
)
def test_a_plan_that_cannot_be_run_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, fault: str
) -> None:
    path = write_plan(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert ablate.main([str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and said.err.startswith("ablate: ")
    assert fault in said.err


@pytest.mark.parametrize(
    ("head", "tail", "fault"),
    [
        ('data = "conceptarc"', variants("a"), "learns from each task alone"),
        ("", variants("a", more="train.lr = 1.0"), "does not look"),
        ("", variants("a", more="ttt.joint = 0.5"), "clock = "),
    ],
)
def test_what_training_at_test_time_cannot_use_is_told(tmp_path: Path, head: str, tail: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        runs_of(tmp_path, f"examples = 32\n{head}", tail, kind="ttt")


def test_other_arguments_that_cannot_be_used_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write_plan(tmp_path))
    assert ablate.main([path, "--only", "base,other"]) == 2
    assert "--only other: no such variant; known: base" in capsys.readouterr().err
    assert ablate.main([path, "--parallel", "0"]) == 2
    assert ablate.main([str(tmp_path / "absent.toml")]) == 2


def test_a_variant_lays_its_tables_over_the_base_and_over_the_one_it_is_like(tmp_path: Path) -> None:
    tail = """
[[variant]]
name = "a"
train = { lr = 0.5, batch_size = 4 }
seeds = [3, 4]
amount_factor = 5

[[variant]]
name = "b"
like = "a"
train.lr = 0.25
preset = "hrm-7m"
"""
    a3, a4, b3, b4 = runs_of(tmp_path, "seconds = 10", tail)
    assert [(r.variant, r.seed, r.amount, r.unit) for r in (a3, a4, b3, b4)] == [
        (name, seed, 50.0, "seconds") for name in "ab" for seed in (3, 4)
    ]
    assert (a3.preset.train.lr, b3.preset.train.lr, b3.preset.train.batch_size) == (0.5, 0.25, 4)
    assert a3.preset.model.hidden_size == b3.preset.model.hidden_size == 32, "as the base has it, whatever the preset"
    assert a3.preset.train.max_side == 15 and b3.preset.train.max_side == 30, "what nothing changes is the preset's"


def test_tasks_are_drawn_by_seed_from_those_that_fit(tmp_path: Path) -> None:
    tasks = {f"t{k}": recolour(f"t{k}", k, side=3 + k % 4) for k in range(12)}
    write_challenges(tmp_path / "sized_challenges.json", tasks)
    answers = {t.id: tuple(map(recoloured, t.test)) for t in tasks.values() if t.id != "t0"}
    write_solutions(tmp_path / "sized_solutions.json", answers)
    write_plan(tmp_path)
    text = (tmp_path / "plan.toml").read_text().replace("little_", "sized_")

    def drawn(seed: int) -> list[str]:
        (tmp_path / "plan.toml").write_text(text.replace("[tasks]", f"[tasks]\nmax_side = 4\nnumber = 4\nseed = {seed}"))
        found = choose(read_plan(tmp_path / "plan.toml").tasks, "")  # type: ignore[arg-type]
        assert list(found.solutions) == list(found.tasks)
        return list(found.tasks)

    fitting = {"t1", "t4", "t5", "t8", "t9"}
    assert drawn(0) == drawn(0) and all(len(drawn(s)) == 4 and set(drawn(s)) < fitting for s in range(5))
    assert len({tuple(drawn(s)) for s in range(5)}) > 1


def test_the_key_changes_with_what_decides_a_run_and_with_nothing_else(tmp_path: Path) -> None:
    def key(change: str = "") -> str:
        path = write_plan(tmp_path)
        old, _, new = change.partition(" -> ")
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new) if change else path.read_text())
        return plan_runs(read_plan(path))[0].key

    plain = key()
    same = [
        'name = "base" -> name = "other name"',
        'kind = "train" -> about = "words"\nkind = "train"',
        "examples = 320 -> examples = 320.0",
    ]
    same.append("lr_min_ratio = 0.05 -> lr_min_ratio = 0.05, beta2 = 0.95")
    assert all(key(change) == plain for change in same)
    other = [
        "examples = 320 -> flops = 320",
        "seeds = [0] -> seeds = [1]",
        "warmup_steps = 5 -> warmup_steps = 6",
        "views = 8 -> views = 9",
    ]
    other += ["examples = 320 -> examples = 321", '"float32" -> "bfloat16"', "[tasks] -> [tasks]\nids = ['task1', 'task2']"]
    keys = [key(change) for change in other]
    assert len({plain, *keys}) == len(other) + 1
    (tmp_path / "little_challenges.json").unlink()
    write_tasks(tmp_path, 4)
    assert key() not in {plain, *keys}, "other tasks"


@pytest.mark.parametrize(("name", "least"), [("recipe", 6), ("ingredients", 6), ("ttt", 6), ("votes", 2)])
def test_the_plans_that_come_along_can_be_run(name: str, least: int) -> None:
    plan = read_plan(ROOT / "scripts" / "ablations" / f"{name}.toml")
    runs = plan_runs(plan)
    assert len({r.key for r in runs}) == len(runs) >= least, "no two variants come to the same"
    tasks = runs[0].material.measured.tasks
    assert len(tasks) == (24 if name == "ttt" else 60)


# Answers never enter training


def relabelled(cells: Sequence[Any]) -> tuple[Any, ...]:
    """Grids with their colours named in the order of their appearance."""
    names: dict[int, int] = {}
    return tuple((g.shape, tuple(names.setdefault(int(c), len(names)) for c in g.ravel())) for g in cells)


def forms(given: Any, wanted: Any) -> set[Any]:
    """A pair in all eight orientations, without its colours."""
    turned = [[np.rot90(np.fliplr(g) if mirrored else g, k) for g in (given, wanted)] for k in range(4) for mirrored in (0, 1)]
    return {relabelled(pair) for pair in turned}


def shown(item: CanvasBatch) -> Iterator[tuple[Any, Any]]:
    """The pairs of grids in a batch: colours are tokens from 2, and nothing is moved on the canvas."""
    side = math.isqrt(item.positions.shape[0])
    for tokens in zip(item.batch.inputs.numpy(), item.batch.labels.numpy(), strict=True):
        grids = []
        for cells in (t.reshape(side, side).astype(int) for t in tokens):
            rows, columns = (int((cells >= 2).any(axis=axis).sum()) for axis in (1, 0))
            grids.append(cells[:rows, :columns] - 2)
        yield grids[0], grids[1]


class Recorder(Trainer):
    """Notes every batch that it trains on."""

    seen: list[CanvasBatch]

    def run(self, batches: Iterator[CanvasBatch], progress: Callable[[], float]) -> Any:
        def noted() -> Iterator[CanvasBatch]:
            for item in batches:
                Recorder.seen.append(item)
                yield item

        return super().run(noted(), progress)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[CanvasBatch]:
    Recorder.seen = []
    monkeypatch.setattr(train_module, "Trainer", Recorder)
    return Recorder.seen


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


def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir(exist_ok=True)
    return path


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
    real = measure_module.score_views

    def spy(model: Any, embedding: Any, requests: Any, *rest: Any) -> Any:
        rows.append((embedding.rows, embedding.dihedral_rows, {r.row for r in requests}))
        return real(model, embedding, requests, *rest)

    monkeypatch.setattr(measure_module, "score_views", spy)
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


# One run


def test_training_learns_and_its_figures_are_counts(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, "examples = 3200")
    figures = train_module.train_run(run, folder(tmp_path))
    assert figures["results"] == {"task0": "1", "task1": "1", "task2": "11"}
    assert figures["view_exact"] > 0.8 and figures["exact"] > 0.8
    assert figures["examples"] == 3200 and figures["segments"] == 200
    assert figures["flops"] == pytest.approx(200 * segment_work(run.preset.model, run.preset.train, 9))
    curve = [json.loads(line) for line in (folder(tmp_path) / "curve.jsonl").read_text().splitlines()]
    assert [line["examples"] for line in curve] == [160 * k for k in range(1, 21)]
    assert curve[0]["exact"] < 0.2 and figures["exact"] == pytest.approx((curve[-1]["exact"] + curve[-2]["exact"]) / 2)


def test_a_run_ends_with_its_operations(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, "flops = 1")
    each = segment_work(run.preset.model, run.preset.train, 9)
    figures = train_module.train_run(replace(run, amount=10.5 * each), folder(tmp_path))
    assert figures["segments"] == 11


def test_a_run_ends_with_its_seconds_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[CanvasBatch]) -> None:
    """On a processor's clock that stands still but for a second a segment, while the other one runs."""
    monkeypatch.setattr(train_module, "_warm_up", lambda *given: None)
    monkeypatch.setattr(train_module.time, "process_time", lambda: float(len(recorded)))
    (run,) = runs_of(tmp_path, "seconds = 12")
    rates: list[float] = []
    real = Trainer._segment
    monkeypatch.setattr(Trainer, "_segment", lambda self, item, factor: (rates.append(factor), real(self, item, factor))[1])
    figures = train_module.train_run(run, folder(tmp_path))
    assert figures["segments"] == len(recorded) == 12 and figures["seconds"] == 12.0
    # Warm-up is 5 segments; from half of the seconds on the rate falls towards 0.05, which it would have after the last.
    assert rates[4:6] == [1.0, 1.0] and rates[-1] == pytest.approx(0.05 + 0.95 * (1 - 11 / 12) / 0.5, abs=0.17)
    assert all(a > b for a, b in pairwise(rates[7:]))


def test_a_view_is_shown_under_the_row_that_it_was_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[CanvasBatch]
) -> None:
    asked: list[Any] = []
    real = measure_module.score_views
    monkeypatch.setattr(measure_module, "score_views", lambda *given: (asked.extend(given[2]), real(*given))[1])
    more = 'model.embedding = "augmented"\ntrain.colours = "permute"\ntrain.augmentations = 9'
    (run,) = runs_of(tmp_path, "examples = 1600", variants("rows", more=more))
    train_module.train_run(run, folder(tmp_path))
    trained: dict[int, set[Any]] = {}
    for item in recorded:
        for row, (given, _) in zip(item.batch.ids.tolist(), shown(item), strict=True):
            trained.setdefault(row, set()).add((given.shape, given.astype(np.uint8).tobytes()))
    by_test = {grid.tobytes(): task for task in run.material.measured.tasks.values() for grid in task.test}
    assert len({request.row for request in asked}) == 3 * 8, "eight of nine views of three tasks"
    for request in asked:
        task = by_test[request.grid.tobytes()]
        views = {(p.input.shape, request.view.apply(p.input).tobytes()) for p in task.train}
        assert trained[request.row] <= views, "all that this row was trained on are this task's demonstrations in this view"


def test_marks_say_which_attempt_was_right() -> None:
    a, b, c = (make_grid([[k]]) for k in (3, 4, 5))
    candidates = [[Candidate(a, 5, -0.1), Candidate(b, 2, -0.1), Candidate(c, 1, -0.1)]] * 3 + [[]]
    found = mark(candidates, 8, [a, b, c, a])
    assert found.outputs == "1200" and found.views == (5 + 2 + 1 + 0) / 32


def test_a_task_alone_is_solved_in_its_session(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, "examples = 1280", variants("all of it", more="ttt.patience = 99"), kind="ttt")
    figures = execute(run, folder(tmp_path))
    lines = [json.loads(line) for line in (folder(tmp_path) / "tasks.jsonl").read_text().splitlines()]
    assert figures["results"] == {line["task"]: line["outputs"] for line in lines} == {"task0": "1", "task1": "1", "task2": "11"}
    assert [line["segments"] for line in lines] == [80] * 3 and figures["segments"] == 80 and figures["examples"] == 3 * 1280
    assert figures["exact"] == sum(line["exact"] for line in lines) / 3 > 0.8
    assert json.loads((folder(tmp_path) / "run.json").read_text())["key"] == run.key


def test_what_votes_were_made_of_is_kept_on_request(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, "examples = 160", variants("plain") + variants("kept", more="vote.save_raw = true"), kind="ttt")
    for run in runs:
        execute(run, run_folder(tmp_path, run))
    plain, kept = (run_folder(tmp_path, run) for run in runs)
    assert not (plain / "raw").exists()
    tasks = read_tasks(raw_files(kept), [])
    assert sorted((task, len(trainings)) for task, trainings in tasks) == [("task0", 1), ("task1", 1), ("task2", 1)]


def test_each_task_gets_its_seconds_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that moves by a hundredth whenever it is read, so that the machine's speed does not matter."""
    now = iter(range(10**9))
    monkeypatch.setattr(ttt_module.time, "process_time", lambda: next(now) / 100)
    (run,) = runs_of(tmp_path, "seconds = 2", variants("all of it", more="ttt.patience = 99"), kind="ttt")
    figures = execute(run, folder(tmp_path))
    lines = [json.loads(line) for line in (folder(tmp_path) / "tasks.jsonl").read_text().splitlines()]
    assert all(1.6 < line["seconds"] < 2.2 and line["reason"] == "share used" for line in lines), lines
    assert figures["seconds"] == pytest.approx(sum(line["seconds"] for line in lines) / 3)


def test_joint_training_comes_first_and_takes_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = "ttt = { joint = 0.75 }\ntrain = { batch_size = 8, augmentations = 8 }"
    (run,) = runs_of(tmp_path, 'seconds = 0.4\nclock = "wall"', variants("joint", more=more), kind="ttt")
    asked: list[Any] = []
    real = ttt_module.Solver.solve
    monkeypatch.setattr(ttt_module.Solver, "solve", lambda *given: (asked.append(given), real(*given))[1])
    execute(run, folder(tmp_path))
    joint = load_checkpoint(folder(tmp_path) / "joint.safetensors", rows=True)
    assert [given[2] for given in asked[1:]] == [pytest.approx(0.1)] * 3, "after the warm-up"
    assert all(torch.equal(given[0]._start[0]["tokens"], joint.state["tokens"]) for given in asked)


def test_a_training_that_diverges_begins_anew_slower(tmp_path: Path) -> None:
    """As in a real run: at these rates the loss is not finite before long; at a third of a third it may be."""
    (run,) = runs_of(tmp_path, "examples = 960", variants("fast", more="ttt = { lr = 1e30, muon_lr = 1e30 }"), kind="ttt")
    figures = execute(run, folder(tmp_path))
    assert figures["results"] == {"task0": "0", "task1": "0", "task2": "00"} and figures["segments"] > 0


# Runs in parallel, and what is kept of them

FAILS = "model = { hidden_size = 1048576, num_heads = 65536, puzzle_emb_ndim = 16 }"


def test_starting_again_does_only_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--runs", str(tmp_path / "records")]
    path = write_plan(tmp_path, tail=variants("a", "b") + variants("too large", more=FAILS))
    results = path.with_suffix(".csv")
    assert ablate.main([str(path), *options, "--parallel", "2"]) == 1, "one run fails, the others are done"
    said = capsys.readouterr()
    failed = [line for line in said.err.splitlines() if "failed" in line]
    assert len(failed) == 1 and "too large, seed 0: failed: RuntimeError" in failed[0]
    first = results.read_text()
    assert [line.split(",")[0] for line in first.splitlines()] == ["variant", "a"], "a and b come to the same: one run serves both"
    assert said.out.count("a      1") == 1 and said.out.count("b      1") == 1

    path = write_plan(tmp_path, tail=variants("a", "b") + variants("c", more="train.lr = 1e-3"))
    assert ablate.main([str(path), *options, "--show"]) == 0 and results.read_text() == first
    assert ablate.main([str(path), *options, "--only", "a"]) == 0 and results.read_text() == first
    assert ablate.main([str(path), *options]) == 0
    assert results.read_text().startswith(first) and [x.split(",")[0] for x in results.read_text().splitlines()[2:]] == ["c"]
    capsys.readouterr()
    assert ablate.main([str(path), *options, "--plot"]) == 0
    table = path.with_suffix(".md").read_text()
    assert "3 tasks, 320 examples a run" in table and table.count("\n| ") == 5 and "missing" not in table
    assert path.with_suffix(".svg").read_text().startswith("<?xml")
    records = [p.name for p in (tmp_path / "records").iterdir() if (p / "result.json").exists()]
    assert len(records) == 2


def test_a_torn_line_is_done_again_and_a_changed_variant_is_not_mixed_in(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, tail=variants("a", more="seeds = [0, 1]"))
    path = tmp_path / "plan.csv"
    names = ("view_exact", "exact", "loss", "segments", "examples", "examples_per_second", "flops", "seconds", "parameters")
    figures: dict[str, Any] = dict.fromkeys(names, 1.0)
    figures |= {"machine": "a, small one", "results": {"t:1": "01", "u": "2"}}
    for run in runs:
        line = append(path, run, figures)
        assert (line["pass@1"], line["pass@2"]) == (pytest.approx(1 / 3, abs=1e-5), pytest.approx(2 / 3, abs=1e-5))
    assert list(read(path, runs)["seed"]) == [0, 1]
    path.write_text(path.read_text()[:-5])
    assert list(read(path, runs)["seed"]) == [0]
    append(path, runs[1], figures)
    rows = read(path, runs)
    assert list(rows["seed"]) == [0, 1] and parse_marks(rows["results"][1]) == figures["results"]
    assert rows["machine"][0] == "a, small one"
    changed = runs_of(tmp_path, tail=variants("a", more="seeds = [0, 1]\ntrain.lr = 0.7"))
    assert read(path, changed).empty


def test_a_process_that_dies_costs_its_run_alone(tmp_path: Path) -> None:
    first, second = runs_of(tmp_path, "seconds = 1000", tail=variants("a", more="seeds = [0, 1]"))
    done: list[Any] = []
    failed: list[Any] = []

    def kill() -> None:
        while not (run_folder(tmp_path, first) / "run.json").exists():
            time.sleep(0.02)
        multiprocessing.active_children()[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    short = replace(second, unit="examples", amount=32.0)
    run_all([first, short], 1, tmp_path, lambda run, _: done.append(run.seed), lambda run, fault: failed.append((run.seed, fault)))
    killer.join()
    assert failed == [(0, "its process ended with status -9")] and done == [1]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_nothing_goes_on_when_it_is_stopped(tmp_path: Path, number: int, status: int) -> None:
    path = write_plan(tmp_path, "seconds = 1000")
    command = [sys.executable, str(ROOT / "scripts" / "ablate.py"), str(path), "--runs", str(tmp_path / "records"), "--parallel", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until = time.monotonic() + 240
        while not list((tmp_path / "records").glob("*/run.json")) and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.kill()
        said = process.communicate(timeout=240)[1]
        assert process.returncode == status
        assert "Traceback" not in said and ("what was finished is kept" in said) == (status == 130)
        _, alive = psutil.wait_procs(children, timeout=240)
        assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


# How sure a table is


def percentiles(chances: Counter[float]) -> tuple[float, float]:
    """2.5 and 97.5 % points of a distribution of values with weights."""
    total, below, found = sum(chances.values()), 0, []
    for tail in (0.025, 0.975):
        below = 0
        for value in sorted(chances):
            below += chances[value]
            if below > tail * total:
                found.append(value)
                break
    return found[0], found[1]


RUNS = [{"a": "102", "b": "0", "c": "1", "d": "22"}, {"a": "100", "b": "2", "c": "1", "d": "00"}]
OTHERS = [{"a": "000", "b": "0", "c": "1", "d": "20"}]


def passed(run: dict[str, str], tasks: Sequence[str], k: int) -> float:
    marks = "".join(run[t] for t in tasks)
    return sum(m in "12"[:k] for m in marks) / len(marks)


@pytest.mark.parametrize("k", [1, 2])
def test_intervals_are_those_of_every_possible_draw(k: Any) -> None:
    """All 256 draws of four tasks with all 4 draws of two runs, instead of some thousands at random."""
    chances: Counter[float] = Counter()
    for tasks in product("abcd", repeat=4):
        for i, j in product((0, 1), repeat=2):
            chances[round((passed(RUNS[i], tasks, k) + passed(RUNS[j], tasks, k)) / 2, 9)] += 1
    low, high = percentiles(chances)
    found = interval(RUNS, k)
    assert found.value == pytest.approx({1: 2 / 7, 2: 4 / 7}[k] if k == 1 else (5 / 7 + 3 / 7) / 2)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    assert interval(RUNS, k) == found


def test_differences_are_of_the_same_draw_of_tasks() -> None:
    chances: Counter[float] = Counter()
    for tasks in product("abcd", repeat=4):
        for i, j in product((0, 1), repeat=2):
            mine = (passed(RUNS[i], tasks, 2) + passed(RUNS[j], tasks, 2)) / 2
            chances[round(mine - passed(OTHERS[0], tasks, 2), 9)] += 1
    low, high = percentiles(chances)
    found = difference(RUNS, OTHERS, 2)
    assert found.value == pytest.approx(4 / 7 - 2 / 7)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    assert difference(OTHERS, OTHERS, 2).text("+") == "+0.0 [+0.0, +0.0]"
    with pytest.raises(ValueError, match="same tasks"):
        difference(RUNS, [{"a": "1"}], 2)


def test_a_table_has_a_line_a_variant_with_means_over_its_seeds(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, tail=variants("mine|", more="seeds = [0, 1]") + variants("other", more="train.lr = 0.7"))
    path = tmp_path / "plan.csv"
    for n, (run, marks) in enumerate(zip(runs, [*RUNS, *OTHERS], strict=True)):
        figures = {
            "view_exact": 0.25 * n,
            "exact": 0.5,
            "loss": None,
            "segments": 10,
            "examples": 20,
            "examples_per_second": 100.0 + 50 * n,
        }
        append(path, run, {**figures, "flops": 1e12, "seconds": 2.0, "parameters": 1500000, "machine": "m", "results": marks})
    table = summary(read(path, runs))
    assert list(table["variant"]) == ["mine|", "other"] and list(table["seeds"]) == [2, 1]
    assert list(table["examples/s"]) == ["125", "200"] and list(table["views %"]) == ["12.5", "50.0"]
    assert table["pass@2 %"][0] == interval(RUNS, 2).text() and table["pass@2 %"][0].startswith("57.1 [")
    assert table["pass@2 against the first"][0] == "" and table["pass@2 against the first"][1].startswith("-28.6 [")
    lines = markdown(table).splitlines()
    assert len(lines) == 4 and "| mine\\| |" in lines[2] and lines[1].count("---") == len(table.columns)
