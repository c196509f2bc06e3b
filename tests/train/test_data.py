"""The data of a run: the mix without leaks, and what the card of its weights says. No packaged weights have seen a pair that they may be
scored on."""

import logging
from importlib import resources
from pathlib import Path

import pytest

from hrm_submit.arc.canonical import pair_hash
from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.cli import main
from hrm_submit.core.errors import TrainError
from hrm_submit.corpora.solutions import solved_pairs, write_solutions
from hrm_submit.corpora.sources import load
from hrm_submit.model.weights import build, load_checkpoint
from hrm_submit.train.mixture import training_tasks
from hrm_submit.train.options import PROTECTED
from tests.train.lab import exported, options, write_data

FOLDER = Path(str(resources.files("hrm_submit"))) / "checkpoints"
MAY_KNOW = {f"{name}.safetensors": {"arc-agi-1-evaluation"} for name in ("arc-agi-2", "arc-agi-2-patches")}
"""Evaluation sets that a checkpoint may know: ARC-AGI-2 training includes most of ARC-AGI-1 evaluation."""


def hashes_of(name: str) -> dict[str, str]:
    """Hash of every pair of a set, demonstrations and answers, to the id of its task."""
    tasks, solutions = load(name, solutions=True)
    return {pair_hash(p.input, p.output): t.id for t in tasks.values() for p in t.train + solved_pairs(t, solutions[t.id])}


@pytest.fixture(scope="module")
def barred() -> dict[str, str]:
    """Hash of every pair of both evaluation sets, demonstrations and answers, to its set."""
    return {key: name for name in ("arc-agi-1-evaluation", "arc-agi-2-evaluation") for key in hashes_of(name)}


def test_the_two_training_tasks_that_leak_are_left_out_by_content(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        kept = training_tasks("arc-agi-1-training")
    assert {"40853293", "caa06a1f"} <= {text.split("/")[1].split()[0] for text in caplog.text.splitlines() if "left out: " in text}
    assert len(kept) == 398
    barred, hashes = hashes_of("arc-agi-1-evaluation").keys(), {key for task in kept for key in task.hashes}
    assert len(barred) > 1500 and len(hashes) > 1000 and not barred & hashes
    assert hashes == {pair_hash(p.input, p.output) for t in kept for p in t.pairs}


def test_weights_for_a_competition_may_know_what_it_does_not_score() -> None:
    """Of ARC-AGI-2 training 376 tasks are evaluation tasks of ARC-AGI-1 by id, and as good as all of those by content."""
    careful = {t.key for t in training_tasks("arc-agi-2-training")}
    kept = training_tasks("arc-agi-2-training", ["arc-agi-2-evaluation"])
    for_arc_2 = {t.key for t in kept}
    first = set(hashes_of("arc-agi-1-evaluation").values())
    assert careful < for_arc_2 and not careful & first and len(for_arc_2 & first) > 350
    assert not hashes_of("arc-agi-2-evaluation").keys() & {key for task in kept for key in task.hashes}


def test_demonstrations_alone_of_the_set_to_be_scored(tmp_path: Path) -> None:
    """Asked for with `:demos`, the demonstrations of a held-out set are trained on; its tests are not, wherever they come from."""
    data = write_data(tmp_path)
    kept = training_tasks(f"{data}:demos", [*PROTECTED, str(data)])
    assert len(kept) == 4 and all(len(t.pairs) == 4 and len(t.task.test) == 1 for t in kept)
    with_tests = training_tasks(str(data))
    assert all(len(t.pairs) == 5 for t in with_tests)
    tests = {t.hashes[4] for t in with_tests}
    assert len(tests) == 4 and not tests & {key for task in kept for key in task.hashes}
    elsewhere = write_data(tmp_path, name="other")
    assert {t.id for t in training_tasks(f"{data}:demos,{elsewhere}", [str(data)])} == {t.id for t in kept}
    with pytest.raises(TrainError, match="no task is left"):
        training_tasks(f"{elsewhere}:demos", [str(data)])


def test_the_card_tells_where_weights_come_from_and_names_no_pair_that_was_too_large(tmp_path: Path) -> None:
    """Left out by its size, a task may be measured on later."""
    data, large = write_data(tmp_path), tmp_path / "large_challenges.json"
    pair = Pair(make_grid([[1] * 20] * 20), make_grid([[2] * 20] * 20))
    write_challenges(large, {"large": Task("large", (pair,), (pair.input,))})
    write_solutions(tmp_path / "large_solutions.json", {"large": (pair.output,)})
    mix = f"{data}:2.5,{large}"
    assert main(["pretrain", *options(tmp_path, "--segments", "3", preset_text="[train]\nmax_side = 15\n", data=mix)]) == 0
    meta = exported(tmp_path / "out").meta
    assert meta.data == (f"{data}:2.5", str(large)) and meta.steps == 3 and meta.preset.endswith("more.toml")
    assert meta.card["tasks"] == 4 and "cores of" in meta.card["machine"] and meta.card["command"].startswith("hrm-submit pretrain --")
    assert len(meta.hashes) == 20 and pair_hash(pair.input, pair.output) not in meta.hashes


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.safetensors")), ids=lambda path: path.name)
def test_a_shipped_checkpoint_has_seen_no_pair_that_it_is_scored_on_and_is_small(path: Path, barred: dict[str, str]) -> None:
    checkpoint = load_checkpoint(path, rows=True)
    meta, (model, embedding) = checkpoint.meta, build(checkpoint)
    assert len(meta.hashes) > 500, "hashes of all its training pairs"
    known = {barred[key] for key in meta.hashes if key in barred}
    assert known == MAY_KNOW.get(path.name, set()), "and a set that it may know is found, so the test can fail"
    assert path.stat().st_size < 10_000_000 and sum(p.stat().st_size for p in FOLDER.iterdir()) < 30_000_000
    assert sum(p.numel() for p in model.parameters()) > 100_000 and embedding.rows.shape[0] == 1
    assert checkpoint.rows is None, "rows of training tasks are of no use to solve"
    assert meta.steps > 1000 and meta.seconds > 60 and meta.preset and meta.data
    assert not any("evaluation" in name for name in meta.data)
    assert {"machine", "command", "tasks", "validation"} <= meta.card.keys()
