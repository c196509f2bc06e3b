"""HRM: a slow (H) and a fast (L) module that update their states in turn, from one carried state to the next.

- One forward is one *segment*: H_cycles x (L_cycles L updates, then one H update), then token logits and the two Q values.
- Published training back-propagates through the last L and H update only; `gradient="all"` through every one.
- The task embedding fills the first `puzzle_emb_len` tokens; grid tokens follow, with position ids given by the caller, so
  that one set of weights serves canvases of any crop.
- No branch on the data: a forward traces into one graph.

Architecture: arXiv:2506.21734 and its published code.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm_submit.arc.codes import NO_CODE
from hrm_submit.config.schema import Kernels, Mixer, ModelConfig
from hrm_submit.model.layers import AttentionKind, Block, Level, Rotary, cast, embed, rotary_tables, rotary_tables_2d, truncated_normal

Q_HEAD_BIAS = -5.0
"""Published start of both Q values: halting is first believed when it has been learnt."""
CODE_SCALE = 0.3
"""Standard deviation of the initial codes beside that of the tokens, as a cell has up to fourteen codes."""


@dataclass(frozen=True)
class InnerCarry:
    """States of both modules, (B, puzzle_emb_len + tokens of the grid, hidden_size) each, without gradient history."""

    z_H: Tensor
    z_L: Tensor


class HRM(nn.Module):
    """Hierarchical Reasoning Model.

    Parameters are float32 and cast to `dtype` at each forward; `attention` and `kernels` (`"numba"` for a CPU thread) pick what computes
    and change results by rounding only. Initial values come from `generator` (torch's default one if None); `initialise=False` leaves
    whatever is in memory, for a model whose state is loaded next.
    """

    def __init__(
        self,
        cfg: ModelConfig,
        *,
        dtype: torch.dtype = torch.float32,
        attention: AttentionKind = "sdpa",
        kernels: Kernels = "torch",
        generator: torch.Generator | None = None,
        initialise: bool = True,
    ) -> None:
        super().__init__()

        def init(shape: tuple[int, ...], std: float) -> Tensor:
            return truncated_normal(shape, std, generator) if initialise else torch.empty(shape)

        self.cfg = cfg
        self.dtype = dtype
        width = cfg.hidden_size
        places = cfg.patch**2
        self.tokens = nn.Parameter(init((places * cfg.vocab_size, width), width**-0.5))
        self.lm_head = nn.Parameter(init((places * cfg.vocab_size, width), width**-0.5))
        self.q_weight = nn.Parameter(torch.zeros(2, width))
        self.q_bias = nn.Parameter(torch.full((2,), Q_HEAD_BIAS))
        if cfg.codes:
            self.codes = nn.Parameter(init((places * cfg.n_codes, width), CODE_SCALE * width**-0.5))
        length = cfg.puzzle_emb_len + cfg.seq_len
        if cfg.pos_encodings == "learned":
            self.positions = nn.Parameter(init((length, width), width**-0.5))
        if cfg.patch > 1:
            self.register_buffer("_place", torch.arange(places), persistent=False)
        for name, tables in self._tables().items():
            self.register_buffer(name, torch.stack(tables), persistent=False)

        self.H_level = Level([Block(cfg, cfg.H_mixer, attention, kernels, init) for _ in range(cfg.H_layers)])
        self.L_level = Level([Block(cfg, cfg.L_mixer, attention, kernels, init) for _ in range(cfg.L_layers)])
        self.H_init: Tensor
        self.L_init: Tensor
        self.register_buffer("H_init", init((width,), 1.0))
        self.register_buffer("L_init", init((width,), 1.0))

    _place: Tensor
    rope: Tensor
    line: Tensor

    @property
    def levels(self) -> tuple[Level, Level]:
        """The networks of H and of L."""
        return self.H_level, self.L_level

    def initial_carry(self, batch: int, length: int, device: torch.device | str | None = None) -> InnerCarry:
        """The states that every sequence starts from, for `batch` canvases of `length` cells."""
        shape = (batch, self.cfg.puzzle_emb_len + self.cfg.grid_tokens(length), -1)
        return InnerCarry(*(state.to(device, self.dtype).expand(shape) for state in (self.H_init, self.L_init)))

    def reset(self, carry: InnerCarry, where: Tensor) -> InnerCarry:
        """`carry` with the initial states in the sequences that `where` (B,) bool marks."""
        mask = where.view(-1, 1, 1)
        return InnerCarry(
            torch.where(mask, self.H_init.to(self.dtype), carry.z_H),
            torch.where(mask, self.L_init.to(self.dtype), carry.z_L),
        )

    def forward(
        self, carry: InnerCarry, tokens: Tensor, task_rows: Tensor | None, positions: Tensor
    ) -> tuple[InnerCarry, Tensor, Tensor, Tensor]:
        """One segment.

        `tokens` (B, N) of any integer type, (B, N, 1 + features) as `with_codes` gives them for a model with codes;
        `task_rows` (B, puzzle_emb_ndim), or None where the model has no task embedding;
        `positions` (N,) int64, each token's position id below seq_len; where blocks convolve or see lines, the N tokens are a square
        canvas, row by row.
        Returns the detached carry, logits (B, N, vocab_size) in the model's `dtype`, and the Q values of halting and of
        continuing, (B,) float32 each.
        """
        cfg = self.cfg
        placed = "attention" in (cfg.H_mixer, cfg.L_mixer) or cfg.pos_encodings == "learned"
        ids = self._position_ids(positions) if placed else positions
        x = self._embed(tokens, task_rows, ids)
        in_grid = cfg.conv_size or "axial" in (cfg.H_mixer, cfg.L_mixer)
        side = math.isqrt(x.shape[1] - cfg.puzzle_emb_len) if in_grid else 0
        h_rotary, l_rotary = (self._rotary(mixer, ids, side) for mixer in (cfg.H_mixer, cfg.L_mixer))
        slow, fast = self.levels
        h_weights, l_weights = slow.cast(self.dtype), fast.cast(self.dtype)
        z_H, z_L = carry.z_H, carry.z_L
        with torch.set_grad_enabled(torch.is_grad_enabled() and cfg.gradient == "all"):
            for cycle in range(cfg.H_cycles):
                last = cycle == cfg.H_cycles - 1
                for _ in range(cfg.L_cycles - last):
                    z_L = fast(z_L, z_H + x, l_rotary, l_weights, side)
                if not last:
                    z_H = slow(z_H, z_L, h_rotary, h_weights, side)
        z_L = fast(z_L, z_H + x, l_rotary, l_weights, side)
        z_H = slow(z_H, z_L, h_rotary, h_weights, side)
        lm_head, q_weight, q_bias = cast((self.lm_head, self.q_weight, self.q_bias), self.dtype)
        logits = self._cells(F.linear(z_H, lm_head)[:, cfg.puzzle_emb_len :], tokens.shape[1])
        q = F.linear(z_H[:, 0], q_weight, q_bias).float()
        return InnerCarry(z_H.detach(), z_L.detach()), logits, q[:, 0], q[:, 1]

    def _tables(self) -> dict[str, Rotary]:
        """RoPE tables by name: `rope` of every token that a canvas may have, `line` of the places along a row or column."""
        cfg, width = self.cfg, self.cfg.hidden_size // self.cfg.num_heads
        if cfg.pos_encodings == "learned":
            return {}
        if cfg.pos_encodings == "rope":
            return {"rope": rotary_tables(cfg.puzzle_emb_len + cfg.seq_len, width, cfg.rope_theta)}
        side = math.isqrt(cfg.seq_len)
        # Cells are counted from 1; the tokens before the grid are at 0, 0, where nothing turns.
        rows, columns = (
            F.pad(place + 1, (cfg.puzzle_emb_len, 0)) for place in torch.unravel_index(torch.arange(cfg.seq_len), (side, side))
        )
        tokens = rotary_tables_2d(rows, columns, width, cfg.rope_theta)
        return {"rope": tokens, "line": rotary_tables(side, width, cfg.rope_theta)}

    def _rotary(self, mixer: Mixer, ids: Tensor, side: int) -> Rotary | None:
        """What turns the queries and keys of blocks with this mixer."""
        if mixer == "none" or self.cfg.pos_encodings == "learned":
            return None
        if mixer == "axial":
            return Rotary(*self.line[:, :side])
        return Rotary(*self.rope[:, ids])

    def _position_ids(self, positions: Tensor) -> Tensor:
        prefix = torch.arange(self.cfg.puzzle_emb_len, device=positions.device, dtype=positions.dtype)
        return torch.cat((prefix, positions + self.cfg.puzzle_emb_len))

    def _embed(self, tokens: Tensor, task_rows: Tensor | None, ids: Tensor) -> Tensor:
        # Summed in float32 and rounded once: the few token rows gather gradients from every cell of the batch.
        cfg, length, width = self.cfg, self.cfg.puzzle_emb_len, self.cfg.hidden_size
        cells = tokens[..., 0] if cfg.codes else tokens
        if cfg.patch > 1:
            cells = self._patches(cells) + self._place * cfg.vocab_size
        x = embed(cells, self.tokens)
        if cfg.patch > 1:
            x = x.sum(2)
        if cfg.codes:
            x = x + self._embed_codes(tokens[..., 1:]).float()
        if cfg.patch > 1:
            x = x / cfg.patch  # the variance of one cell
        if length:
            assert task_rows is not None, "this model needs a task embedding"
            prefix = F.pad(task_rows.float(), (0, length * width - cfg.puzzle_emb_ndim))
            x = torch.cat((prefix.view(-1, length, width), x), dim=1)
        if cfg.pos_encodings == "learned":
            # The sum of two embeddings has twice the variance of one.
            x = (x + F.embedding(ids, self.positions)) * math.sqrt(0.5)
        return (x * math.sqrt(width)).to(self.dtype)

    def _patches(self, cells: Tensor, beyond: int = 0) -> Tensor:
        """`cells` (B, N, ...) of a square canvas as (B, T, patch * patch, ...), with `beyond` where patches reach beyond the canvas."""
        side, patch = math.isqrt(cells.shape[1]), self.cfg.patch
        n = -(-side // patch)
        canvas = F.pad(cells.unflatten(1, (side, side)), (*(0, 0) * (cells.ndim - 2), *(0, n * patch - side) * 2), value=beyond)
        return canvas.unflatten(2, (n, patch)).unflatten(1, (n, patch)).transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _cells(self, logits: Tensor, cells: int) -> Tensor:
        """Undo `_patches` for `logits` (B, T, patch * patch * vocab_size) of a canvas of `cells`: (B, cells, vocab_size)."""
        if self.cfg.patch == 1:
            return logits
        side, patch, n = math.isqrt(cells), self.cfg.patch, math.isqrt(logits.shape[1])
        places = logits.unflatten(2, (patch, patch, -1)).unflatten(1, (n, n)).transpose(2, 3)
        return places.flatten(3, 4).flatten(1, 2)[:, :side, :side].flatten(1, 2)

    def _embed_codes(self, codes: Tensor) -> Tensor:
        """Sums (B, T, hidden_size) of the embeddings of `codes` (B, N, features), `NO_CODE` adding nothing, in the model's `dtype`."""
        n = len(self.codes)
        if self.cfg.patch > 1:
            # Patches beyond the canvas are PAD, which has no codes.
            codes = self._patches(codes, NO_CODE).long()
            codes = torch.where(codes < self.cfg.n_codes, codes + self._place[:, None] * self.cfg.n_codes, n).flatten(2)
        hot = torch.zeros(*codes.shape[:2], n + 1, dtype=self.dtype, device=codes.device)
        hot.scatter_(2, codes.long().clamp(max=n), 1.0)
        return hot[..., :n] @ self.codes.to(self.dtype)
