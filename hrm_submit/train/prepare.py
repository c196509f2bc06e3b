"""From the options of `pretrain` to a request: the data mix without leaks, the held-out set, what the checkpoint will tell."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hrm_submit.arc.training_task import TrainingTask, within
from hrm_submit.config.preset_files import load_preset
from hrm_submit.core.allocator import keep_freed_memory
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import cpu_count, list_devices, machine
from hrm_submit.core.errors import TrainError
from hrm_submit.corpora.leaks import protected_hashes, without_leaks
from hrm_submit.corpora.sources import Corpus, load_corpora, load_source, parse_spec
from hrm_submit.model.weights import CheckpointMeta
from hrm_submit.train.options import PROTECTED, PretrainOptions
from hrm_submit.train.pretrain import pretrain
from hrm_submit.train.ranks import join_ranks, leave_ranks, local_world, rank_device
from hrm_submit.train.request import Held, PretrainRequest

log = logging.getLogger(__name__)


def training_tasks(data: str, held: Held | None, *, strict: bool = False, protect: Sequence[str] = PROTECTED) -> list[TrainingTask]:
    """The tasks of the mix `data` without those that share a pair with a protected set.

    Protected are the sets of `protect` and `held`; of a set that the mix names with `:demos`, only its test pairs are.
    Raises DataError for data that cannot be loaded, TrainError where nothing is left.
    """
    corpora = load_corpora(data, strict=strict)
    tasks = [task for corpus in corpora for task in corpus.tasks]
    names = [*dict.fromkeys([*protect, *([held.name] if held else [])])]
    deliberate = {parse_spec(spec)[0] for spec, corpus in zip(data.split(","), corpora, strict=True) if corpus.demos_only}
    kept, dropped = without_leaks(tasks, protected_hashes(names, test_only=[n for n in names if n in deliberate]))
    for task_id, reason in dropped:
        log.info("left out: %s %s", task_id, reason)
    if not kept:
        raise TrainError(f"--data {data}: no task is left to train on")
    log.info("%s: %d tasks, %d of %d left out as leaks", _names(corpora), len(kept), len(dropped), len(tasks))
    return kept


def held_out(source: str, every: float) -> Held:
    """The set to measure on, with its solutions. Raises DataError; TrainError where it has none."""
    _, tasks, solutions = load_source(source)
    if not solutions:
        raise TrainError(f"--validate {source}: has no solutions to measure by")
    return Held(source, tasks, solutions, every)


def pretrain_as_asked(options: PretrainOptions, clock: Clock) -> str:
    """`pretrain` from end to end, on this rank; the first one returns how it ended. Raises UserError before the first segment."""
    import torch

    preset = load_preset(options.presets)
    found = list_devices(options.devices)
    device = rank_device(found)
    ranks = join_ranks(device)
    if not ranks.leads:
        logging.getLogger("hrm_submit").setLevel(logging.WARNING)  # once is enough
    elif ranks.world < len(found):
        log.info("of %s only %d is used; start under torchrun --nproc-per-node %d to use all", ", ".join(found), ranks.world, len(found))
    try:
        if device == "cpu":
            torch.set_num_threads(options.threads or max(1, cpu_count() // local_world()))
            keep_freed_memory()
        else:
            torch.cuda.set_device(device)
        held = held_out(options.validate, options.every) if options.validate else None
        tasks = training_tasks(options.data, held, strict=options.strict, protect=options.protect)
        seen = [kept for task in tasks if (kept := within(task, preset.train.max_side))]
        hashes = sorted({key for task in seen for key in task.hashes})
        card = {"machine": machine(), "command": options.command_line, "tasks": len(seen), "protected": list(options.protect)}
        meta = CheckpointMeta(data=tuple(options.data.split(",")), hashes=tuple(hashes), preset=options.presets, card=card)
        request = PretrainRequest(**vars(options), sources=tuple(tasks), preset=preset, meta=meta, device=device, held=held)
        ended = pretrain(request, ranks, clock)
        return ended if ranks.leads else ""
    finally:
        leave_ranks(ranks)


def _names(corpora: tuple[Corpus, ...]) -> str:
    return ", ".join(corpus.name + (":demos" if corpus.demos_only else "") for corpus in corpora)
