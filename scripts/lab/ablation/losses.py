"""How far the views of a vote are from the right outputs: a figure that may tell two variants apart where pass@2 of few tasks cannot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hrm_submit.arc.augment import augmentation_arrays
from hrm_submit.arc.canvas import PAD, PackedPairs, encode
from hrm_submit.arc.task import Grid, Pair, Task
from hrm_submit.predict.raw import RawVote

LEAST = -12.0
"""What a log-probability counts at least: one cell taken for impossible would outweigh all others."""


def mean_test_loss(vote: RawVote, task: Task, outputs: Sequence[Grid]) -> float | None:
    """Mean negative log-probability, in nats a token, of the right outputs of `task` at the answer's step: of each view over the tokens
    that show its output (colours and the EOS that end them), over the views of an output, and over the outputs.

    An output that does not fit the run's canvas is left out; None where none does, or no view is of a test input.
    """
    side, losses = vote.scores.side, []
    for number, (question, output) in enumerate(zip(task.test, outputs, strict=True)):
        of_output = vote.of_output(number)
        if not len(of_output) or max(output.shape) > side:
            continue
        transforms, colours, offsets = augmentation_arrays(of_output.views)
        _, wanted = encode(
            PackedPairs.from_pairs([Pair(question, output)]), np.zeros(len(of_output), dtype=np.int64), transforms, colours, offsets, side
        )
        step = np.asarray(of_output.log_probs[:, vote.answer_step - 1], dtype=np.float64)
        right = np.take_along_axis(step, wanted[:, :, None].astype(np.int64), axis=2)[:, :, 0].clip(min=LEAST)
        shown = wanted != PAD
        losses.append(float(-((right * shown).sum(1) / shown.sum(1)).mean()))
    return sum(losses) / len(losses) if losses else None
