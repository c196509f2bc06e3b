"""This package's HRM against a recording of the published implementation, number by number, gradients included."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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

Array = NDArray[Any]


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
                self.arrays: dict[str, Array] = {key: archive[key] for key in archive.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{path}: not a readable .npz file: {error}") from None
        self.path = path
        try:
            published = json.loads(bytes(self["config"]).decode("utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{path}: config is not JSON: {error}") from None
        state = {inner_name(k.removeprefix("state/")): torch.from_numpy(v) for k, v in self.arrays.items() if k.startswith("state/")}
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

    def __getitem__(self, key: str) -> Array:
        if key not in self.arrays:
            raise CheckpointError(f"{self.path}: has no array {key!r}")
        return self.arrays[key]

    def numbered(self, prefix: str) -> list[str]:
        """Return prefix0, prefix1, ... as far as they are recorded."""
        names = (f"{prefix}{k}" for k in count())
        return list(takewhile(lambda name: any(key.startswith(f"{name}/") for key in self.arrays), names))

    def batch(self, prefix: str) -> Batch:
        """Return the sequences offered at `prefix`."""
        inputs, labels = (torch.from_numpy(self[f"{prefix}/{name}"]) for name in ("inputs", "labels"))
        ids = torch.zeros(len(inputs), dtype=torch.int64)
        if self.cfg.puzzle_emb_ndim:
            ids = torch.from_numpy(self[f"{prefix}/puzzle_identifiers"]).long()
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


def _values(fixture: Fixture, prefix: str, ours: dict[str, torch.Tensor | None]) -> Iterator[Row]:
    offered = {"inputs", "labels", "puzzle_identifiers"}
    for name in [key.removeprefix(f"{prefix}/") for key in fixture.arrays if key.startswith(f"{prefix}/")]:
        if name not in offered and not name.startswith("grad/"):
            yield Row(f"{prefix}/{name}", "max abs diff ", _largest(fixture[f"{prefix}/{name}"], ours.get(name)), ABSOLUTE)


def _gradients(fixture: Fixture, prefix: str, output: ActOutput) -> Iterator[Row]:
    recorded = {inner_name(k.removeprefix(prefix)): v for k, v in fixture.arrays.items() if k.startswith(prefix)}
    if not recorded:
        return
    rows = recorded.pop("puzzle_emb_rows", None)
    theirs = state_from_published({name: torch.from_numpy(value) for name, value in recorded.items()}, str(fixture.path))
    ours = {name: parameter.grad for name, parameter in fixture.model.named_parameters()}
    for name, gradient in theirs.items():
        yield Row(f"{prefix}{name}", "relative norm", _relative(gradient, ours.get(name)), RELATIVE)
    if rows is not None:
        grad = None if output.looked_up is None else output.looked_up.rows.grad
        yield Row(f"{prefix}puzzle_emb_rows", "relative norm", _relative(torch.from_numpy(rows), grad), RELATIVE)


def _largest(recorded: Array, ours: torch.Tensor | None) -> float:
    if ours is None or tuple(ours.shape) != recorded.shape:
        return float("inf")
    difference = ours.detach().double().numpy() - recorded.astype(np.float64)
    return float(np.abs(difference).max(initial=0.0))


def _relative(recorded: torch.Tensor, ours: torch.Tensor | None) -> float:
    norm = recorded.double().norm()
    if ours is None:
        # a parameter that nothing depends on has no gradient here, zeros in a recording
        return 0.0 if norm == 0 else float("inf")
    if ours.shape != recorded.shape:
        return float("inf")
    return float((ours.double() - recorded.double()).norm() / norm.clamp_min(1e-12))
