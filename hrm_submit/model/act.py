"""Adaptive computation time around the recurrence: who halts, who takes new data, what the Q values should have been.

- A carry keeps the *data* of each sequence; one that halted takes its row of the next batch and starts from the initial states.
- The carry holds task ids, never looked-up rows, so that each segment sees (and trains) the rows as they are by then.
- Evaluation never halts early: the sequences of a batch stay in step. Training halts by the Q values, with exploration.
- A model without continue target never learns that value: its sequences halt where halting is likelier right than not.

Rules: arXiv:2506.21734, section 2, and its published code; without continue target arXiv:2510.04871.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hrm_submit.model.embedding import LookedUp, TaskEmbedding
from hrm_submit.model.hrm import HRM, InnerCarry


@dataclass(frozen=True)
class Batch:
    """Sequences offered to a segment: `inputs` (B, N) integer tokens, (B, N, 1 + features) with codes, `labels` (B, N) integers with -100
    where ignored, `ids` (B,) int64 rows of the task embedding, `dihedral` (B,) int64 transforms 0..7."""

    inputs: Tensor
    labels: Tensor
    ids: Tensor
    dihedral: Tensor


@dataclass(frozen=True)
class ActCarry:
    """Between two segments: inner states, `steps` (B,) int32 done on the current data, `halted` (B,) bool, the current data."""

    inner: InnerCarry
    steps: Tensor
    halted: Tensor
    data: Batch

    def tensors(self) -> dict[str, Tensor]:
        """By name, which `of` takes back."""
        return {"z_H": self.inner.z_H, "z_L": self.inner.z_L, "steps": self.steps, "halted": self.halted, **vars(self.data)}

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> ActCarry:
        """The carry of these `tensors()`."""
        data = Batch(**{f.name: tensors[f.name] for f in fields(Batch)})
        return ActCarry(InnerCarry(tensors["z_H"], tensors["z_L"]), tensors["steps"], tensors["halted"], data)


@dataclass(frozen=True)
class ActOutput:
    """Of one segment: `logits` (B, N, V), `q_halt`, `q_continue` (B,) float32; in training of several steps with a continue target also
    `target_q_continue` (B,) float32 in 0..1; `looked_up` where the model has a task embedding."""

    logits: Tensor
    q_halt: Tensor
    q_continue: Tensor
    target_q_continue: Tensor | None
    looked_up: LookedUp | None


def initial_act_carry(model: HRM, batch: Batch) -> ActCarry:
    """A carry in which every sequence has halted, so that the first segment takes all of its batch."""
    size, length = batch.inputs.shape[:2]
    device = batch.inputs.device
    return ActCarry(
        inner=model.initial_carry(size, length, device),
        steps=torch.zeros(size, dtype=torch.int32, device=device),
        halted=torch.ones(size, dtype=torch.bool, device=device),
        data=batch,
    )


def act_step(
    model: HRM,
    embedding: TaskEmbedding,
    carry: ActCarry,
    batch: Batch,
    positions: Tensor,
    *,
    training: bool,
    max_steps: int,
    least: Tensor | None = None,
) -> tuple[ActCarry, ActOutput]:
    """One segment of `model`, its halting decision, and in training the target of the continue value.

    `positions` (N,) int64 are the position ids of the canvas; all batches given to one carry share its N. `max_steps` is the
    most segments a sequence gets, `least` (B,) the fewest of each training sequence (`draw_least`), else 1. Gradients are on exactly
    when `training`.
    """
    with torch.set_grad_enabled(training):
        data = _take(carry.halted, batch, carry.data)
        rows = embedding.lookup(data.ids, data.dihedral) if model.cfg.puzzle_emb_len else None
        inner = model.reset(carry.inner, carry.halted)
        inner, logits, q_halt, q_continue = model(inner, data.inputs, rows, positions)
    with torch.no_grad():
        steps = carry.steps.masked_fill(carry.halted, 0) + 1
        is_last = steps >= max_steps
        halted, target = is_last, None
        if training and max_steps > 1:
            halted = halted | (q_halt > (q_continue if model.cfg.continue_target else 0.0))
            halted = halted if least is None else halted & (steps >= least)
            if model.cfg.continue_target:
                _, _, next_halt, next_continue = model(inner, data.inputs, rows, positions)
                target = torch.sigmoid(torch.where(is_last, next_halt, torch.maximum(next_halt, next_continue)))
    looked_up = None if rows is None else LookedUp(data.ids, data.dihedral, rows)
    return ActCarry(inner, steps, halted, data), ActOutput(logits, q_halt, q_continue, target, looked_up)


def _take(where: Tensor, new: Batch, old: Batch) -> Batch:
    kept = vars(old)
    return Batch(**{name: torch.where(where.view(-1, *(1,) * (t.ndim - 1)), t, kept[name]) for name, t in vars(new).items()})


def draw_least(
    size: int, max_steps: int, exploration: float, generator: torch.Generator | None, part: tuple[int, int] = (0, 1)
) -> Tensor | None:
    """Fewest segments (size,) int64 of each training sequence: 0, or with probability `exploration` one of 2 .. max_steps, drawn
    uniformly; None where that draws nothing.

    It lies on the device of `generator`, or on the CPU. Where the batch is part k of n equal ones of a larger batch, `part` = (k, n)
    draws for it what the larger batch would have drawn.
    """
    if exploration <= 0.0 or max_steps <= 1:
        return None
    device = "cpu" if generator is None else generator.device
    k, n = part
    explores = torch.rand(size * n, generator=generator, device=device) < exploration
    least = torch.randint(2, max_steps + 1, (size * n,), generator=generator, device=device)
    return (explores * least)[k * size : (k + 1) * size]
