"""What a plan may say, what its runs then are, and which faults of it are told."""

from pathlib import Path
from typing import Any

import ablate
import pytest
from kaggle_kit.paths import ROOT
from lab.ablation_plan import read_plan
from lab.ablation_runs import choose, plan_runs

from hrm_submit.arc.canonical import pair_hash
from hrm_submit.arc.reader import write_challenges
from hrm_submit.core.errors import ConfigError
from hrm_submit.corpora.leaks import protected_hashes
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.model.weights import load_checkpoint
from hrm_submit.train.options import PROTECTED
from tests.run.lab import recolour, recoloured
from tests.scripts.lab.ablation_lab import runs_of, variants, write_plan, write_tasks
from tests.shared import write_weights

PLANS = sorted((ROOT / "scripts" / "ablations").glob("*.toml"))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('kind = "train"', 'kind = "ttt"', "changes [train], which kind 'ttt' does not read"),
        ("examples = 320", "examples = 320\nseconds = 5", "not seconds and examples"),
        ("examples = 320", "seconds = -1", "exactly one of seconds, flops, examples, above 0"),
        ("examples = 320", "examples = 320\nsedes = [1]", "'sedes'"),
        ("seeds = [0]", "seeds = [0, 0]", "different whole numbers"),
        ("examples = 320", 'examples = 320\ndevice = "cuda:0"', "CPU seconds tell nothing"),
        ("examples = 320", 'examples = 320\nclock = "wall"\ndevice = "cuda:77"', "no cuda:77 here"),
        ("[tasks]", "[tasks]\nmax_side = 2", "0 tasks of side 2 or less"),
        ("[tasks]", "[tasks]\nnumber = 4", "3 tasks of side 30 or less"),
        ("[tasks]", '[tasks]\nids = ["task9"]', "no task task9"),
        ("data = ", "# ", "[tasks] should name data"),
        ("little_challenges.json", "none_challenges.json", "no such file"),
        ("[base]", "[base]\nmodle.hidden_size = 3", "'modle'"),
        ("[base]", "[base]\nttt.lr = 1.0", "changes [ttt], which kind 'train' does not read"),
        ('name = "base"', "", "needs a name"),
        ('name = "base"', 'name = "base"\ntrain.learning_rate = 1.0', "'learning_rate'"),
        ('name = "base"', 'name = "base"\nmodel.seq_len = 100', "too small for ARC"),
        ('name = "base"', 'name = "base"\ntrain.max_side = 2', "leaves out 3 of the tasks"),
        ('name = "base"', 'name = "base"\nlike = "other"', "no variant before it"),
        ('name = "base"', 'name = "base"\namount_factor = 0', "amount_factor"),
        ('name = "base"', 'name = "base"\ncheckpoint = "absent.safetensors"', "absent.safetensors"),
        ('name = "base"', 'name = "base"\n[[variant]]\nname = "base"', "not again 'base'"),
    ],
)
def test_a_plan_that_cannot_be_run_is_told_in_a_line(tmp_path: Path, refused: Any, old: str, new: str, fault: str) -> None:
    path = write_plan(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    line = refused(ablate.main, [str(path)])
    assert line.startswith("ablate: ") and fault in line


def test_other_arguments_that_cannot_be_used_are_told(tmp_path: Path, refused: Any) -> None:
    path = str(write_plan(tmp_path, tail=variants("a", "b")))
    assert "--only other: no such variant; known: a, b" in refused(ablate.main, [path, "--only", "a,b,other"])
    assert "--parallel" in refused(ablate.main, [path, "--parallel", "0"])
    assert "absent.toml" in refused(ablate.main, [str(tmp_path / "absent.toml")])


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
    assert [(r.variant, r.seed) for r in (a3, a4, b3, b4)] == [("a", 3), ("a", 4), ("b", 3), ("b", 4)]
    assert {(r.amount, r.plan.unit) for r in (a3, a4, b3, b4)} == {(50.0, "seconds")}
    assert (a3.preset.train.lr, b3.preset.train.lr, b3.preset.train.batch_size) == (0.5, 0.25, 4)
    assert a3.preset.model.hidden_size == b3.preset.model.hidden_size == 32, "as the base has it, whatever the preset"
    assert a3.preset.train.max_side == 15 and b3.preset.train.max_side == 30, "what nothing changes is the preset's"


def test_tasks_are_drawn_by_seed_from_those_that_fit(tmp_path: Path) -> None:
    tasks = {f"t{k}": recolour(f"t{k}", k, side=3 + k % 4) for k in range(12)}
    write_challenges(tmp_path / "sized_challenges.json", tasks)
    answers = {t.id: tuple(map(recoloured, t.test)) for t in tasks.values() if t.id != "t0"}
    write_solutions(tmp_path / "sized_solutions.json", answers)
    text = write_plan(tmp_path).read_text().replace("little_", "sized_")

    def drawn(seed: int, more: str = "") -> list[str]:
        (tmp_path / "plan.toml").write_text(text.replace("[tasks]", f"[tasks]\nmax_side = 4\nnumber = 4\nseed = {seed}\n{more}"))
        found = choose(read_plan(tmp_path / "plan.toml").choice, "")
        assert list(found.solutions) == list(found.tasks)
        return list(found.tasks)

    fitting = {"t1", "t4", "t5", "t8", "t9"}
    assert drawn(0) == drawn(0) and all(len(drawn(s)) == 4 and set(drawn(s)) < fitting for s in range(5))
    assert len({tuple(drawn(s)) for s in range(5)}) > 1
    assert drawn(0, 'ids = ["t9", "t4", "t7", "t1", "t5"]') == ["t1", "t4", "t5", "t9"] != drawn(0), "of those that are listed"


SAME = [
    'name = "base" -> name = "other name"',
    'kind = "train" -> about = "words"\nkind = "train"',
    "examples = 320 -> examples = 320.0",
    "lr_min_ratio = 0.05 -> lr_min_ratio = 0.05, beta2 = 0.95",
]
OTHER = [
    "examples = 320 -> flops = 320",
    "examples = 320 -> examples = 321",
    "seeds = [0] -> seeds = [1]",
    "warmup_steps = 5 -> warmup_steps = 6",
    "views = 8 -> views = 9",
    '"float32" -> "bfloat16"',
    "[tasks] -> [tasks]\nids = ['task1', 'task2']",
]


def test_the_key_changes_with_what_decides_a_run_and_with_nothing_else(tmp_path: Path) -> None:
    def key(change: str = "") -> str:
        path = write_plan(tmp_path)
        old, _, new = change.partition(" -> ")
        if change:
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new))
        return plan_runs(read_plan(path))[0].key

    plain, others = key(), [key(change) for change in OTHER]
    assert all(key(change) == plain for change in SAME)
    assert len({plain, *others}) == len(OTHER) + 1
    write_tasks(tmp_path, 4)
    assert key() not in {plain, *others}, "other tasks"


def test_weights_that_were_trained_on_an_answer_are_refused(tmp_path: Path) -> None:
    (plain,) = runs_of(tmp_path, "examples = 32")

    def key(name: str, seed: int = 0, **meta: object) -> str:
        path = write_weights(tmp_path / f"{name}.safetensors", plain.preset.model, seed, **meta)
        return runs_of(tmp_path, "examples = 32", variants("a", more=f'checkpoint = "{path}"'))[0].key

    first = key("good", hashes=("00",))
    assert first != plain.key and first != key("others", seed=1)
    assert first == key("again", card={"note": "measured since"}), "a card that says more leaves a run what it was"
    with pytest.raises(ConfigError, match="trained on 1 of the test pairs"):
        key("bad", hashes=("00", min(plain.chosen.test_hashes())))


@pytest.fixture(scope="module")
def protected() -> set[str]:
    return set(protected_hashes(PROTECTED))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_the_plans_that_come_along_can_be_run_and_choose_options_on_tasks_that_nothing_knows(path: Path, protected: set[str]) -> None:
    runs = plan_runs(read_plan(path))
    assert len({r.key for r in runs}) == len(runs) > 0, "no two variants come to the same"
    if path.stem in ("ttt", "votes", "large"):
        chosen, checkpoint = runs[0].chosen, runs[0].checkpoint
        assert checkpoint
        known = protected | set(load_checkpoint(checkpoint).meta.hashes)
        demonstrations = {pair_hash(p.input, p.output) for task in chosen.tasks.values() for p in task.train}
        assert not known & (demonstrations | chosen.test_hashes())
