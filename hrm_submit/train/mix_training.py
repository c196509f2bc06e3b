"""Training on a data mix, by pre-training and ablations: the loop of `Trainer` with weights to start from, batches built ahead, and
recovery from a failed segment."""

import logging
from collections.abc import Callable, Iterator, Sequence

import torch

from hrm_submit.config.runtime import Runtime
from hrm_submit.config.schema import Preset
from hrm_submit.core.device import free_memory, no_engine, out_of_memory
from hrm_submit.core.errors import TrainError, one_line
from hrm_submit.model.compiled import compile_blocks, engine_of, step_down
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.weights import Checkpoint, build
from hrm_submit.train.loop import SegmentReport, Trainer
from hrm_submit.train.mixture import Mixture, ahead
from hrm_submit.train.ranks import ALONE, Ranks, SharedMemoryError

log = logging.getLogger(__name__)


class MixTraining:
    """A model in training on `mixture` with `[train]` of `preset`, from `start` or from random weights drawn from `seed`.

    A task that has a row in `start` begins with that. `batch_size` is the global one. Raises TrainError if the ranks cannot share it.
    """

    def __init__(
        self, mixture: Mixture, preset: Preset, runtime: Runtime, start: Checkpoint | None, seed: int, ranks: Ranks = ALONE
    ) -> None:
        self.mixture, self.runtime, self.ranks, self.batch_size = mixture, runtime, ranks, preset.train.batch_size
        if self.batch_size % ranks.world:
            raise TrainError(f"[train] batch_size {self.batch_size} cannot be shared by {ranks.world} ranks")
        model, embedding = build(start or preset.model, runtime, n_rows=mixture.n_rows, seed=seed)
        if start:
            known = place_rows(embedding, start, mixture.row_ids)
            log.info("the weights to start from know %d of %d tasks", known, len(mixture.sources))
        compile_blocks(model, runtime.engine)
        self.trainer = Trainer(model, embedding, preset.train, torch.Generator().manual_seed(seed), ranks)

    def run(self, progress: Callable[[], float]) -> Iterator[SegmentReport]:
        """Train and yield after each segment, until the caller stops; `progress` as in `Trainer.run`.

        If memory runs out, the batch is halved, then cuDNN given up if that has no engine; if a compiled model fails, its engine
        steps down; any other error is raised.
        """
        while True:
            batches = ahead(self.mixture, self.trainer.segment, self.ranks, self.batch_size, self.runtime.device)
            try:
                yield from self.trainer.run(batches, progress)
            except (MemoryError, RuntimeError) as error:
                self._recover(error)
            finally:
                batches.close()  # type: ignore[attr-defined]
            # Only now are the error and the frames that it holds gone.
            self.trainer.model.zero_grad(set_to_none=True)
            self.trainer.carries.clear()
            free_memory(self.runtime.device)

    def _recover(self, error: Exception) -> None:
        """Change what the failed segment can be repeated with, or raise."""
        world = self.ranks.world
        if no_engine(error) and self.batch_size < self.trainer.config.batch_size and torch.backends.cudnn.enabled:
            torch.backends.cudnn.enabled = False
            log.warning("cuDNN has no engine, continuing without it: %s", one_line(error))
        elif out_of_memory(error):
            half = self.batch_size // 2 // world * world
            if world > 1 and not isinstance(error, SharedMemoryError):
                raise error
            if not half:
                raise TrainError(f"out of memory with a batch of {self.batch_size}: {one_line(error)}")
            self.batch_size = half
            log.warning("out of memory: the batch is now %d", half)
        elif world == 1 and engine_of(self.trainer.model) != "plain":
            step_down(self.trainer.model, error)
        else:
            raise error


def place_rows(embedding: TaskEmbedding, checkpoint: Checkpoint, row_ids: Sequence[str]) -> int:
    """Copy the row of each task of `row_ids` that `checkpoint` knows; the others keep theirs. Returns how many it knew."""
    known = {task_id: n for n, task_id in enumerate(checkpoint.meta.row_ids)}
    ours = [n for n, task_id in enumerate(row_ids) if task_id in known]
    if checkpoint.rows is None or not ours:
        return 0
    rows = checkpoint.rows[[known[row_ids[n]] for n in ours]]
    embedding.reset_rows(torch.tensor(ours, device=embedding.rows.device), rows)
    return len(ours)
