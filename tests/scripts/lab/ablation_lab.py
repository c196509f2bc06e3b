"""Small tasks, and plans over them."""

from pathlib import Path

from lab.ablation_plan import read_plan
from lab.ablation_runs import Run, plan_runs

from hrm_submit.arc.reader import write_challenges
from hrm_submit.corpora.solutions import write_solutions
from tests.run.lab import TINY_MODEL, recolour, recoloured

MODEL = TINY_MODEL.removeprefix("\n[model]\n").strip().replace("\n", ", ")
TRAINING = (
    'optimizer = "muon", lr = 3e-3, muon_lr = 1e-2, batch_size = 16, segments = 1, warmup_steps = 5, '
    'decay_fraction = 0.5, lr_min_ratio = 0.05, augmentations = 60, colours = "fixed", translate = false'
)
REST = 'vote = { views = 8, act_steps = 1, batch_size = 16 }\ndevice.dtype = "float32"\n'


def write_tasks(folder: Path, n: int = 3) -> None:
    """Write recolouring tasks of side 3, the last one with two test inputs, and their solutions."""
    tasks = {f"task{k}": recolour(f"task{k}", k, outputs=2 if k == n - 1 else 1) for k in range(n)}
    write_challenges(folder / "little_challenges.json", tasks)
    write_solutions(folder / "little_solutions.json", {t.id: tuple(map(recoloured, t.test)) for t in tasks.values()})


def write_plan(folder: Path, head: str = "examples = 320", tail: str = '[[variant]]\nname = "base"\n', kind: str = "train") -> Path:
    """Write a plan over `write_tasks`; `head` comes before the tables, `tail` after them."""
    challenges, path = folder / "little_challenges.json", folder / "plan.toml"
    if not challenges.exists():
        write_tasks(folder)
    base = f"[base]\nmodel = {{ {MODEL} }}\n{kind} = {{ {TRAINING} }}\n{REST}"
    path.write_text(f'kind = "{kind}"\nseeds = [0]\n{head}\n[tasks]\ndata = "{challenges}"\n{base}\n{tail}')
    return path


def runs_of(folder: Path, *arguments: str, **options: str) -> list[Run]:
    """The runs of such a plan."""
    return plan_runs(read_plan(write_plan(folder, *arguments, **options)))


def variants(*names: str, more: str = "") -> str:
    """Variants of these names, each with the lines `more`."""
    return "".join(f'[[variant]]\nname = "{name}"\n{more}\n' for name in names)
