"""Small tasks, plans over them, and trainings whose every batch is noted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab.ablation.plan import read_plan
from lab.ablation.runs import Run, plan_runs

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.train.loop import CanvasBatch, Trainer
from tests.run.lab import TINY_MODEL, recolour, recoloured

ROOT = Path(__file__).parents[4]
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
    """The runs of such a plan."""
    return plan_runs(read_plan(write_plan(folder, *arguments, **options)))


def variants(*names: str, more: str = "") -> str:
    """Variants of these names, each with the lines `more`."""
    return "".join(f'[[variant]]\nname = "{name}"\n{more}\n' for name in names)


def folder(tmp_path: Path) -> Path:
    """Where a run leaves its records."""
    path = tmp_path / "run"
    path.mkdir(exist_ok=True)
    return path


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
