"""This package's HRM against a recording of the published implementation, number by number, gradients included."""

import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hrm_submit.config.schema import ModelConfig
from hrm_submit.core.errors import CheckpointError
from hrm_submit.model.act import ActCarry, ActOutput, Batch, act_step, initial_act_carry
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.losses import segment_loss
from hrm_submit.model.published import EMBEDDING_KEY, config_from_published, inner_name, state_from_published
from hrm_submit.model.weights import check_state

ABSOLUTE = 1e-4
"""Largest difference of a logit, Q value, loss or metric."""
RELATIVE = 1e-3
"""Largest norm of a gradient's difference, as a share of the recorded gradient's norm."""


@dataclass(frozen=True)
class Row:
    """One compared group: `error` is the largest absolute difference, or for a gradient the relative norm of the difference."""

    group: str
    measure: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        """Within the limit; NaN never is."""
        return self.error <= self.limit

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'}  {self.measure} {self.error:8.2e} (limit {self.limit:.0e})  {self.group}"


class Fixture:
    """A recording, and the published model rebuilt from its state."""

    def __init__(self, path: Path, attention: str = "sdpa") -> None:
        try:
            with np.load(path, allow_pickle=False) as archive:
                self.arrays = {key: torch.from_numpy(archive[key]) for key in archive.files}
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{path}: not a readable .npz file: {error}") from None
        self.path = path
        try:
            published = json.loads(bytes(self["config"].numpy()))
        except ValueError as error:
            raise CheckpointError(f"{path}: config is not JSON: {error}") from None
        state = {inner_name(name): tensor for name, tensor in self.below("state/").items()}
        table = state.pop(EMBEDDING_KEY, None)
        self.cfg: ModelConfig = config_from_published(published, state, str(path))
        self.model = HRM(self.cfg, attention="math" if attention == "math" else "sdpa")
        ours = state_from_published(state, str(path))
        check_state(ours, self.cfg, str(path))
        self.model.load_state_dict(ours)
        self.embedding = TaskEmbedding(self.cfg, 1 if table is None else len(table))
        if table is not None:
            self.embedding.rows.copy_(table)
        self.positions = torch.arange(self.cfg.seq_len)

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.arrays:
            raise CheckpointError(f"{self.path}: has no array {key!r}")
        return self.arrays[key]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Return what is recorded under keys that begin with `prefix`, by the rest of the key."""
        return {key.removeprefix(prefix): tensor for key, tensor in self.arrays.items() if key.startswith(prefix)}

    def numbered(self, prefix: str) -> list[str]:
        """Return prefix0, prefix1, ... as far as they are recorded."""
        return list(takewhile(lambda name: self.below(f"{name}/"), (f"{prefix}{k}" for k in count())))

    def batch(self, prefix: str) -> Batch:
        """Return the sequences offered at `prefix`."""
        inputs, labels = self[f"{prefix}/inputs"], self[f"{prefix}/labels"]
        ids = self[f"{prefix}/puzzle_identifiers"].long() if self.cfg.puzzle_emb_ndim else torch.zeros(len(inputs), dtype=torch.int64)
        return Batch(inputs=inputs, labels=labels, ids=ids, dihedral=torch.zeros_like(ids))


def compare(path: Path, attention: str = "sdpa") -> Iterator[Row]:
    """Compare every group that the fixture at `path` records, evaluation first. Raises CheckpointError for a file of another form."""
    fixture = Fixture(path, attention)
    model, cfg = fixture.model, fixture.cfg
    evaluated, trained = fixture.numbered("eval/step"), fixture.numbered("train/seg")
    if not evaluated and not trained:
        raise CheckpointError(f"{path}: records neither eval/step0 nor train/seg0")
    for steps, training in ((evaluated, False), (trained, True)):
        carry: ActCarry | None = None
        for prefix in steps:
            batch = fixture.batch(prefix if training else "eval")
            carry = carry or initial_act_carry(model, batch)
            # Without exploration of halting, as it was recorded.
            carry, output = act_step(
                model, fixture.embedding, carry, batch, fixture.positions, training=training, max_steps=cfg.halt_max_steps
            )
            loss, metrics = segment_loss(output, carry, cfg.loss_type)
            ours = {
                "logits": output.logits,
                "q_halt_logits": output.q_halt,
                "q_continue_logits": output.q_continue,
                "target_q_continue": output.target_q_continue,
                "loss": loss,
                "halted": carry.halted,
                "steps": carry.steps,
            }
            yield from _values(fixture, prefix, ours | {f"metric/{name}": value for name, value in vars(metrics).items()})
            if training:
                model.zero_grad(set_to_none=True)
                (loss / len(batch.inputs)).backward()
                yield from _gradients(fixture, f"{prefix}/grad/", output)


def _values(fixture: Fixture, prefix: str, ours: dict[str, Tensor | None]) -> Iterator[Row]:
    offered = {"inputs", "labels", "puzzle_identifiers"}
    for name, recorded in fixture.below(f"{prefix}/").items():
        if name not in offered and not name.startswith("grad/"):
            yield Row(f"{prefix}/{name}", "max abs diff ", _difference(recorded, ours.get(name), math.inf), ABSOLUTE)


def _gradients(fixture: Fixture, prefix: str, output: ActOutput) -> Iterator[Row]:
    recorded = {inner_name(name): tensor for name, tensor in fixture.below(prefix).items()}
    rows = recorded.pop("puzzle_emb_rows", None)
    theirs = state_from_published(recorded, str(fixture.path))
    ours = {name: parameter.grad for name, parameter in fixture.model.named_parameters()}
    if rows is not None:
        theirs["puzzle_emb_rows"] = rows
        ours["puzzle_emb_rows"] = None if output.looked_up is None else output.looked_up.rows.grad
    for name, gradient in theirs.items():
        own = ours.get(name)
        if own is None:  # a parameter that nothing depends on has no gradient here, zeros in a recording
            own = torch.zeros_like(gradient)
        yield Row(f"{prefix}{name}", "relative norm", _difference(gradient, own) / max(1e-12, float(gradient.double().norm())), RELATIVE)


def _difference(recorded: Tensor, ours: Tensor | None, p: float = 2.0) -> float:
    """Return the p-norm of the difference, infinite where there is nothing of this shape to compare with."""
    if ours is None or ours.shape != recorded.shape:
        return float("inf")
    return float(torch.linalg.vector_norm(ours.detach().double() - recorded.double(), p))
