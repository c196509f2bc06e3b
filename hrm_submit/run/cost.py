"""What a training segment of a task costs: counted from shapes, then put into seconds by what was measured.

Shapes alone rank tasks before anything has run. A device adds an overhead to every segment, which on a GPU outweighs the
arithmetic of a small task; so seconds are fitted as overhead + work / rate to the segments seen so far.
"""

from __future__ import annotations

import math

from hrm_submit.config.schema import Mixer, ModelConfig, TrainConfig, feed_forward_width


def segment_work(model: ModelConfig, train: TrainConfig, tokens: int) -> float:
    """Floating-point operations of one training segment on `train.batch_size` canvases of `tokens` cells.

    2 operations a multiply-add, of matrix products, attention and convolutions only. A backward pass costs two forward ones, and
    only what is differentiated has one: the last update of each module under the one-step gradient. The forward pass for the
    continue target counts where it runs: if a sequence may get more than one segment.
    """
    cycle, last, heads = _cycle_work(model, tokens, model.L_cycles), _cycle_work(model, tokens, 1), _heads_work(model, tokens)
    updates = model.H_cycles * cycle
    differentiated = updates if model.gradient == "all" else last
    looks_ahead = model.continue_target and min(train.segments, model.halt_max_steps) > 1
    forward = (updates + heads) * (2 if looks_ahead else 1)
    return float(train.batch_size * (forward + 2 * (differentiated + heads)))


def view_work(model: ModelConfig, tokens: int, act_steps: int) -> float:
    """Floating-point operations of one view's prediction: `act_steps` segments (at most the model's) without a backward pass."""
    step = model.H_cycles * _cycle_work(model, tokens, model.L_cycles) + _heads_work(model, tokens)
    return float(min(act_steps, model.halt_max_steps) * step)


def _cycle_work(model: ModelConfig, tokens: int, l_updates: int) -> int:
    """Forward passes of `l_updates` updates of L and one of H over one sequence."""
    fast = model.L_layers * _block_work(model, tokens, model.L_mixer)
    return l_updates * fast + model.H_layers * _block_work(model, tokens, model.H_mixer)


def _block_work(model: ModelConfig, tokens: int, mixer: Mixer) -> int:
    """One block's forward pass over one sequence: its matrices, attention's two products, and its convolution over the grid."""
    width, length = model.hidden_size, tokens + model.puzzle_emb_len
    inner = feed_forward_width(width, model.expansion)
    matrices = (4 * width * width if mixer != "none" else 0) + 3 * width * inner
    return 2 * length * matrices + 4 * keys_seen(model, tokens, mixer) * width + 2 * tokens * inner * model.conv_size**2


def keys_seen(model: ModelConfig, tokens: int, mixer: Mixer) -> int:
    """Keys that each of a head's queries sees, added up over the tokens of one sequence with `tokens` cells."""
    before, length = model.puzzle_emb_len, tokens + model.puzzle_emb_len
    return {"none": 0, "attention": length * length, "axial": tokens * (math.isqrt(tokens) + before) + before * length}[mixer]


def _heads_work(model: ModelConfig, tokens: int) -> int:
    """Token logits and the two Q values of one sequence."""
    return 2 * model.hidden_size * ((tokens + model.puzzle_emb_len) * model.vocab_size + 2)


class Speed:
    """Seconds of a segment as overhead + work / rate, fitted by least squares to what was measured; neither is negative."""

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    @property
    def measured(self) -> bool:
        """Whether anything was measured yet."""
        return self._n > 0

    def observe(self, work: float, seconds: float, segments: int) -> None:
        """`segments` segments of `work` operations each took `seconds` in all."""
        if segments < 1 or seconds <= 0 or work <= 0:
            return
        # Relative errors count: each observation is weighed by its segments over its square seconds.
        each = seconds / segments
        weight = segments / (each * each)
        self._n += weight
        self._x += weight * work
        self._y += weight * each
        self._xx += weight * work * work
        self._xy += weight * work * each

    def scaled(self, factor: float) -> Speed:
        """The speed of a device that is `factor` times as fast in everything."""
        faster = Speed()
        # Each observation is weighed by its segments over its square seconds, and the sums hold seconds to the power given.
        square = factor * factor
        faster._n, faster._x, faster._xx = self._n * square, self._x * square, self._xx * square
        faster._y, faster._xy = self._y * factor, self._xy * factor
        return faster

    def seconds(self, work: float) -> float:
        """Predicted seconds of a segment of `work` operations. Raises ValueError where nothing was measured."""
        if not self.measured:
            raise ValueError("no segment was measured yet")
        overhead, slope = self.fitted()
        return overhead + slope * work

    def fitted(self) -> tuple[float, float]:
        """The overhead and the seconds of an operation. Something must have been measured."""
        spread = self._n * self._xx - self._x * self._x
        through_zero = (0.0, self._xy / self._xx)
        # Works that hardly differ say nothing of the overhead.
        if spread <= 1e-4 * self._n * self._xx:
            return through_zero
        slope = (self._n * self._xy - self._x * self._y) / spread
        overhead = (self._y - slope * self._x) / self._n
        if slope < 0:
            return self._y / self._n, 0.0
        return (overhead, slope) if overhead >= 0 else through_zero
