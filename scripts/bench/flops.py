"""Floating-point operations of a training segment, counted from shapes.

The rule: 2 operations a multiply-add, matrix products only, attention's two among them. A backward pass costs twice its forward
pass, and only what is differentiated has one: the last L and the last H update under the one-step gradient, all of them under the
full one. The second forward, for the continue target, counts where it runs: if the model has such a target and a sequence may get
more than one segment. Nothing is counted for norms, activations, losses or the optimizer, so the rate is that of useful work.
"""

from __future__ import annotations

from hrm_submit.core.config import ModelConfig, TrainConfig, feed_forward_width


def segment_flops(model: ModelConfig, train: TrainConfig, tokens: int) -> int:
    """Of one segment, with its backward pass, on a batch of `train.batch_size` canvases of `tokens` cells."""
    length = tokens + model.puzzle_emb_len
    block = length * (2 * _block_parameters(model) + 4 * length * model.hidden_size)
    heads = 2 * length * model.hidden_size * model.vocab_size + 2 * model.hidden_size * 2
    updates = model.H_cycles * (model.L_cycles * model.L_layers + model.H_layers)
    differentiated = updates if model.gradient == "all" else model.L_layers + model.H_layers
    forward = updates * block + heads
    backward = 2 * (differentiated * block + heads)
    return train.batch_size * (forward * (2 if looks_ahead(model, train) else 1) + backward)


def looks_ahead(model: ModelConfig, train: TrainConfig) -> bool:
    """Whether a segment has a second forward."""
    return model.continue_target and min(train.segments, model.halt_max_steps) > 1


def _block_parameters(model: ModelConfig) -> int:
    """Queries, keys, values and output; SwiGLU's gate, up and down."""
    width = model.hidden_size
    return 4 * width * width + 3 * width * feed_forward_width(width, model.expansion)
