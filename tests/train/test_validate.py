"""Validation: every task once, whoever measures it, with what memory and time there is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.arc.task import Grid, Solutions, Task
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.schema import Preset
from hrm_submit.corpora.solutions import load_solutions
from hrm_submit.corpora.sources import load
from hrm_submit.predict import answer as answer_module
from hrm_submit.train.ranks import Ranks
from hrm_submit.train.validate import validate
from tests.predict.lab import answering
from tests.run.lab import recoloured
from tests.train.lab import preset, write_data

Known = tuple[dict[str, Task], Solutions, Preset]


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Known:
    """Four tasks, and in place of any model one that knows the rule of the odd ones (colours 2 or 4 first), and none of the others."""

    def say(requests: Sequence[Any]) -> list[Grid | None]:
        firsts = [min({int(c) for c in asked.grid.ravel()} - {7, 8}, default=0) for asked in requests]
        return [recoloured(r.grid, (first, 7, 8)) if first in (2, 4) else None for r, first in zip(requests, firsts, strict=True)]

    answering(monkeypatch, say)
    path = write_data(tmp_path, 4)
    return load(path), load_solutions(path.with_name("little_solutions.json")), load_preset(preset(tmp_path))


def run(known: Known, **options: Any) -> Any:
    tasks, solutions, asked = known
    return validate(None, None, tasks, solutions, asked, **options)  # type: ignore[arg-type]


def test_the_score_is_the_share_of_solved_outputs_that_have_a_solution(known: Known) -> None:
    tasks, solutions, asked = known
    for some, share in ((solutions, 0.5), ({"task01": solutions["task01"]}, 1.0)):
        result = run((tasks, some, asked))
        assert result["pass@1"] == result["pass@2"] == share and result["counts"]["tasks"] == len(some)


def test_ranks_measure_every_task_once(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[dict[str, Any]] = []
    monkeypatch.setattr(Ranks, "collect", lambda self, value: [shares.append(value), value][1:])
    for rank in range(3):
        run(known, ranks=Ranks(rank, 3))
    assert sorted(task_id for share in shares for task_id in share) == [f"task{k:02d}" for k in range(4)]


def test_stopped_it_scores_what_is_done(known: Known) -> None:
    assert run(known, stop=lambda: True) is None
    asked = iter([False, False, True])
    assert run(known, stop=lambda: next(asked))["counts"]["tasks"] == 2


def test_out_of_memory_halves_the_batch(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    scored, sizes = answer_module.score_views, list[int]()

    def limited(model: Any, embedding: Any, requests: Any, side: int, config: Any, **options: Any) -> Any:
        sizes.append(config.batch_size)
        if config.batch_size > 2:
            raise MemoryError
        return scored(model, embedding, requests, side, config, **options)

    monkeypatch.setattr(answer_module, "score_views", limited)
    assert run(known)["pass@2"] == 0.5 and sizes[:3] == [8, 4, 2] and set(sizes[3:]) == {2}
    monkeypatch.setattr(answer_module, "score_views", lambda *args, **options: (_ for _ in ()).throw(MemoryError("none at all")))
    with pytest.raises(MemoryError, match="none at all"):
        run(known)
