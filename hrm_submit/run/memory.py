"""Bytes that training needs, counted from shapes: enough to choose how many workers share a GPU, and how large batches are.

An upper estimate in the main terms: weights with gradients and moments, and what a block keeps for its backward pass.
"""

from __future__ import annotations

from hrm_submit.config.schema import ModelConfig, feed_forward_width
from hrm_submit.run.cost import keys_seen

CONTEXT_BYTES = 600 * 2**20
"""What a CUDA context and the libraries' workspaces take on a GPU before a tensor is made."""

_BYTES_PER_PARAMETER = 4 * 4 + 2
"""Weight, gradient and two moments in float32, and the copy in the number format that a forward computes in."""


def parameters(model: ModelConfig) -> int:
    """Trainable parameters of the blocks, which are nearly all of the model's."""
    width = model.hidden_size
    mixing = model.H_layers * (model.H_mixer != "none") + model.L_layers * (model.L_mixer != "none")
    return 4 * width * width * mixing + (model.H_layers + model.L_layers) * 3 * width * feed_forward_width(width, model.expansion)


def training_bytes(model: ModelConfig, tokens: int, batch: int, *, element: int, fused_attention: bool) -> int:
    """Peak bytes of one training segment of `batch` sequences of `tokens` cells, in numbers of `element` bytes.

    A block keeps its input, three projections and their turned copies, the attention's output, two sums and norms, the gated
    values and their factors, with a convolution their grid and its result too; written-out attention keeps two tables of queries by
    keys a head besides. With the one-step gradient only the last cycle's blocks keep anything.
    """
    length, width = tokens + model.puzzle_emb_len, model.hidden_size
    inner = feed_forward_width(width, model.expansion)
    kept = length * (element * (14 * width + (5 + 3 * bool(model.conv_size)) * inner) + 4 * 6 * width)
    tables = 0 if fused_attention else 2 * element * model.num_heads
    slow = model.H_layers * (kept + tables * keys_seen(model, tokens, model.H_mixer))
    fast = model.L_layers * (kept + tables * keys_seen(model, tokens, model.L_mixer))
    cycles, l_updates = (model.H_cycles, model.L_cycles) if model.gradient == "all" else (1, 1)
    logits = length * model.vocab_size * 4 * 6
    blocks = cycles * (l_updates * fast + slow)
    return parameters(model) * _BYTES_PER_PARAMETER + batch * (blocks + logits)


def workers_that_fit(free_bytes: int, bytes_each: int, most: int) -> int:
    """How many workers of `bytes_each` bytes (their contexts come on top) a GPU with `free_bytes` holds; at least 1, at most `most`."""
    return max(1, min(most, int(0.9 * free_bytes) // (bytes_each + CONTEXT_BYTES)))


def batch_that_fits(free_bytes: int, model: ModelConfig, tokens: int, batch: int, *, element: int, fused_attention: bool) -> int:
    """`batch`, halved until a training segment of it fits into `free_bytes`; at least 1."""
    while batch > 1 and training_bytes(model, tokens, batch, element=element, fused_attention=fused_attention) > 0.9 * free_bytes:
        batch //= 2
    return batch
