"""The published HRM written a second time, in float64, as plainly as possible: one sequence at a time, RoPE as complex numbers,
attention head by head, losses from their definitions. It shares nothing with the package; `record` writes what it computes in
the form that scripts/check_parity.py reads.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PREFIX = "_orig_mod.model.inner."
DEFAULTS: dict[str, Any] = {
    "batch_size": 3,
    "seq_len": 7,
    "puzzle_emb_ndim": 16,
    "num_puzzle_identifiers": 5,
    "vocab_size": 12,
    "H_cycles": 2,
    "L_cycles": 2,
    "H_layers": 1,
    "L_layers": 1,
    "hidden_size": 16,
    "expansion": 4,
    "num_heads": 2,
    "pos_encodings": "rope",
    "halt_max_steps": 3,
    "halt_exploration_prob": 0.0,
    "forward_dtype": "float32",
    "loss_type": "stablemax_cross_entropy",
}


def random_state(cfg: dict[str, Any], seed: int) -> dict[str, Tensor]:
    """Random weights under the published names (without prefix), exactly representable in float32."""
    generator = torch.Generator().manual_seed(seed)
    width, tokens = cfg["hidden_size"], math.ceil(cfg["puzzle_emb_ndim"] / cfg["hidden_size"])
    inner = math.ceil(round(cfg["expansion"] * width * 2 / 3) / 256) * 256
    shapes: dict[str, tuple[int, ...]] = {
        "H_init": (width,),
        "L_init": (width,),
        "embed_tokens.embedding_weight": (cfg["vocab_size"], width),
        "lm_head.weight": (cfg["vocab_size"], width),
        "q_head.weight": (2, width),
        "q_head.bias": (2,),
    }
    if cfg["pos_encodings"] == "learned":
        shapes["embed_pos.embedding_weight"] = (cfg["seq_len"] + tokens, width)
    for level, layers in (("H", cfg["H_layers"]), ("L", cfg["L_layers"])):
        for i in range(layers):
            stem = f"{level}_level.layers.{i}."
            shapes |= {f"{stem}self_attn.qkv_proj.weight": (3 * width, width), f"{stem}self_attn.o_proj.weight": (width, width)}
            shapes |= {f"{stem}mlp.gate_up_proj.weight": (2 * inner, width), f"{stem}mlp.down_proj.weight": (width, inner)}
    state = {name: torch.randn(shape, generator=generator) * shape[-1] ** -0.5 for name, shape in shapes.items()}
    if cfg["puzzle_emb_ndim"]:
        state["puzzle_emb.weights"] = torch.randn(cfg["num_puzzle_identifiers"], cfg["puzzle_emb_ndim"], generator=generator) * 0.2
    return state


def norm(x: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()


def turn(x: Tensor) -> Tensor:
    """RoPE of one head, (T, d): coordinate i and i + d/2 are a complex number that position t turns by t * 10000^(-2i/d)."""
    half = x.shape[1] // 2
    numbers = torch.complex(x[:, :half], x[:, half:])
    rates = torch.tensor([10000.0 ** (-2 * i / x.shape[1]) for i in range(half)], dtype=torch.float64)
    turned = numbers * torch.polar(torch.ones(len(x), half, dtype=torch.float64), torch.arange(len(x))[:, None] * rates)
    return torch.cat((turned.real, turned.imag), dim=1)


def block(cfg: dict[str, Any], state: dict[str, Tensor], stem: str, x: Tensor) -> Tensor:
    width, heads = cfg["hidden_size"], cfg["num_heads"]
    d = width // heads
    projected = x @ state[f"{stem}self_attn.qkv_proj.weight"].T
    mixed = []
    for h in range(heads):
        q, k, v = (projected[:, part * width + h * d : part * width + (h + 1) * d] for part in range(3))
        if cfg["pos_encodings"] == "rope":
            q, k = turn(q), turn(k)
        weights = torch.exp(q @ k.T / math.sqrt(d))
        mixed.append(weights / weights.sum(1, keepdim=True) @ v)
    x = norm(x + torch.cat(mixed, dim=1) @ state[f"{stem}self_attn.o_proj.weight"].T)
    both = x @ state[f"{stem}mlp.gate_up_proj.weight"].T
    gate, up = both[:, : both.shape[1] // 2], both[:, both.shape[1] // 2 :]
    return norm(x + (gate / (1 + torch.exp(-gate)) * up) @ state[f"{stem}mlp.down_proj.weight"].T)


def level(cfg: dict[str, Any], state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    for i in range(cfg[f"{name}_layers"]):
        x = block(cfg, state, f"{name}_level.layers.{i}.", x)
    return x


def segment(
    cfg: dict[str, Any], state: dict[str, Tensor], z_h: Tensor, z_l: Tensor, tokens: Tensor, row: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One sequence through one segment: new states (T, D), logits (N, V), the two Q values (2,). Gradient of the last step only."""
    width = cfg["hidden_size"]
    x = state["embed_tokens.embedding_weight"][tokens]
    prefix = 0
    if row is not None:
        prefix = math.ceil(len(row) / width)
        x = torch.cat((torch.cat((row, torch.zeros(prefix * width - len(row), dtype=row.dtype))).reshape(prefix, width), x))
    if cfg["pos_encodings"] == "learned":
        x = (x + state["embed_pos.embedding_weight"]) / math.sqrt(2)
    x = x * math.sqrt(width)
    updates = [name for _ in range(cfg["H_cycles"]) for name in "L" * cfg["L_cycles"] + "H"]
    for number, name in enumerate(updates):
        if number == len(updates) - 2:
            z_h, z_l = z_h.detach(), z_l.detach()
        if name == "L":
            z_l = level(cfg, state, "L", z_l + z_h + x)
        else:
            z_h = level(cfg, state, "H", z_h + z_l)
    logits = z_h[prefix:] @ state["lm_head.weight"].T
    return z_h, z_l, logits, z_h[0] @ state["q_head.weight"].T + state["q_head.bias"]


def stablemax(x: Tensor) -> Tensor:
    scores = torch.zeros_like(x)
    scores[x >= 0] = x[x >= 0] + 1
    scores[x < 0] = 1 / (1 - x[x < 0])
    return scores / scores.sum(-1, keepdim=True)


def cross_entropy(cfg: dict[str, Any], logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labelled cells of one sequence; 0 without any."""
    probabilities = stablemax(logits) if cfg["loss_type"].startswith("stablemax") else torch.softmax(logits, -1)
    cells = [-probabilities[i, label].log() for i, label in enumerate(labels.tolist()) if label != -100]
    return torch.stack(cells).mean() if cells else logits.sum() * 0


def binary(q: Tensor, target: float | Tensor) -> Tensor:
    p = 1 / (1 + torch.exp(-q))
    return -(target * p.log() + (1 - target) * (1 - p).log())


class Recorder:
    """Runs the reference and keeps what a fixture holds."""

    def __init__(self, seed: int = 0, **changes: Any) -> None:
        self.cfg = {**DEFAULTS, **changes}
        self.rng = np.random.default_rng(seed)
        self.state = {k: v.double().requires_grad_() for k, v in random_state(self.cfg, seed).items()}
        self.arrays: dict[str, Any] = {"config": np.frombuffer(json.dumps(self.cfg).encode(), np.uint8)}
        for name, tensor in self.state.items():
            self.arrays[f"state/{PREFIX}{name}"] = tensor.detach().float().numpy()

    def batch(self, prefix: str) -> dict[str, Tensor]:
        shape = (self.cfg["batch_size"], self.cfg["seq_len"])
        labels = self.rng.integers(0, 12, shape)
        labels[self.rng.random(shape) < 0.4] = -100
        labels[0] = -100
        drawn = {
            "inputs": self.rng.integers(0, 12, shape),
            "labels": labels,
            "puzzle_identifiers": self.rng.integers(0, self.cfg["num_puzzle_identifiers"], shape[0]),
        }
        for name, values in drawn.items():
            self.arrays[f"{prefix}/{name}"] = values.astype(np.int32)
        return {name: torch.from_numpy(values) for name, values in drawn.items()}

    def run(self, prefix: str, sequences: list[dict[str, Any]], training: bool) -> None:
        """One segment of all sequences (their state is updated), recorded under `prefix`; metrics are in the published recordings alone."""
        cfg, most = self.cfg, self.cfg["halt_max_steps"]
        total, rows, out = torch.zeros((), dtype=torch.float64), [], []
        for s in sequences:
            row = self.state["puzzle_emb.weights"][s["id"]].detach().requires_grad_() if cfg["puzzle_emb_ndim"] else None
            z_h, z_l, logits, q = segment(cfg, self.state, s["z_h"], s["z_l"], s["inputs"], row)
            s["z_h"], s["z_l"], s["steps"] = z_h.detach(), z_l.detach(), s["steps"] + 1
            rows.append(row)
            out.append((logits, q))
            exact = bool((logits.argmax(-1) == s["labels"])[s["labels"] != -100].all())
            s["halted"] = last = s["steps"] >= most
            total = total + cross_entropy(cfg, logits, s["labels"]) + binary(q[0], float(exact)) / 2
            if training and most > 1:
                s["halted"] = last or bool(q[0] > q[1])
                following = segment(cfg, self.state, s["z_h"], s["z_l"], s["inputs"], row)[3].detach()
                total = total + binary(q[1], torch.sigmoid(following[0] if last else following.max())) / 2
        record = {"loss": total.item(), "halted": [s["halted"] for s in sequences]}
        if training:
            record["steps"] = [s["steps"] for s in sequences]
            self.gradients(f"{prefix}/grad/", total / len(sequences), rows)
        else:
            record["logits"] = torch.stack([logits for logits, _ in out]).detach().numpy()
            for i, name in enumerate(("q_halt_logits", "q_continue_logits")):
                record[name] = [q[i].item() for _, q in out]
        self.arrays |= {f"{prefix}/{name}": np.asarray(value) for name, value in record.items()}

    def gradients(self, prefix: str, loss: Tensor, rows: list[Tensor | None]) -> None:
        for tensor in self.state.values():
            tensor.grad = None
        loss.backward()
        for name, tensor in self.state.items():
            if tensor.grad is not None:
                self.arrays[f"{prefix}{PREFIX}{name}"] = tensor.grad.float().numpy()
        if rows[0] is not None:
            self.arrays[f"{prefix}puzzle_emb_rows"] = torch.stack([row.grad for row in rows]).float().numpy()

    def fresh(self, batch: dict[str, Tensor], i: int) -> dict[str, Any]:
        length = self.cfg["seq_len"] + math.ceil(self.cfg["puzzle_emb_ndim"] / self.cfg["hidden_size"])
        start = {z: self.state[f"{z[-1].upper()}_init"].detach().expand(length, -1) for z in ("z_h", "z_l")}
        return {**start, "steps": 0, "inputs": batch["inputs"][i], "labels": batch["labels"][i], "id": batch["puzzle_identifiers"][i]}


def record(path: Path, seed: int = 0, segments: int = 4, **changes: Any) -> None:
    """Write a fixture of the reference to `path`; `changes` to DEFAULTS give its form."""
    r = Recorder(seed, **changes)
    size = range(r.cfg["batch_size"])
    batch = r.batch("eval")
    sequences = [r.fresh(batch, i) for i in size]
    for number in range(r.cfg["halt_max_steps"]):
        r.run(f"eval/step{number}", sequences, training=False)
    for number in range(segments):
        batch = r.batch(f"train/seg{number}")
        sequences = [r.fresh(batch, i) if number == 0 or sequences[i]["halted"] else sequences[i] for i in size]
        r.run(f"train/seg{number}", sequences, training=True)
    np.savez(path, **r.arrays)
