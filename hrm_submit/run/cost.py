"""Estimate what a training segment costs: operations and bytes from shapes, seconds from what was measured.

Shapes alone rank tasks before anything has run. A device adds an overhead to every segment, which on a GPU outweighs the
arithmetic of a small task; so seconds are fitted as overhead + work / rate to the measured segments. Bytes are an upper estimate in the
main terms: weights with gradients and moments, and what a block keeps for its backward pass.
"""

import math
from statistics import fmean

from hrm_submit.arc.sizes import canvas_side, training_sides
from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Mixer, ModelConfig, TrainConfig, feed_forward_width
from hrm_submit.model.checkpoint_header import model_shapes

CONTEXT_BYTES = 600 * 2**20
"""What a CUDA context and the libraries' workspaces take on a GPU before a tensor is made."""

_BYTES_PER_PARAMETER = 4 * 4 + 2
"""Weight, gradient and two moments in float32, and the copy in the number format that a forward computes in."""


def segment_work(model: ModelConfig, train: TrainConfig, tokens: int) -> float:
    """Count the floating-point operations of one training segment on `train.batch_size` canvases of `tokens` cells.

    2 operations a multiply-add, of matrix products, attention and convolutions only. A backward pass costs two forward ones, and
    only what is differentiated has one: the last update of each module under the one-step gradient. The forward pass for the
    continue target counts where it runs: if a sequence may get more than one segment.
    """
    tokens = model.grid_tokens(tokens)
    cycle, last, heads = _cycle_work(model, tokens, model.L_cycles), _cycle_work(model, tokens, 1), _heads_work(model, tokens)
    updates = model.H_cycles * cycle
    differentiated = updates if model.gradient == "all" else last
    looks_ahead = model.continue_target and min(train.segments, model.halt_max_steps) > 1
    forward = (updates + heads) * (2 if looks_ahead else 1)
    return float(train.batch_size * (forward + 2 * (differentiated + heads)))


def task_work(model: ModelConfig, train: TrainConfig, task: Task) -> float:
    """Count the operations of a mean training segment of `task`, whose demonstrations have canvases of their own."""
    return fmean(segment_work(model, train, side**2) for side in training_sides(task, translate=train.translate) or [canvas_side(task)])


def view_work(model: ModelConfig, tokens: int, act_steps: int) -> float:
    """Count the floating-point operations of one view's prediction: `act_steps` segments (at most the model's) without a backward pass."""
    tokens = model.grid_tokens(tokens)
    step = model.H_cycles * _cycle_work(model, tokens, model.L_cycles) + _heads_work(model, tokens)
    return float(min(act_steps, model.halt_max_steps) * step)


def _cycle_work(model: ModelConfig, tokens: int, l_updates: int) -> int:
    """Count forward passes of `l_updates` updates of L and one of H over one sequence."""
    fast = model.L_layers * _block_work(model, tokens, model.L_mixer)
    return l_updates * fast + model.H_layers * _block_work(model, tokens, model.H_mixer)


def _block_work(model: ModelConfig, tokens: int, mixer: Mixer) -> int:
    """Count one block's forward pass over one sequence: its matrices, attention's two products, and its convolution over the grid."""
    width, length = model.hidden_size, tokens + model.puzzle_emb_len
    inner = feed_forward_width(width, model.expansion)
    matrices = (4 * width * width if mixer != "none" else 0) + 3 * width * inner
    return 2 * length * matrices + 4 * keys_seen(model, tokens, mixer) * width + 2 * tokens * inner * model.conv_size**2


def keys_seen(model: ModelConfig, tokens: int, mixer: Mixer) -> int:
    """Count the keys that a head's queries see, summed over the tokens of one sequence with `tokens` cells."""
    before, length = model.puzzle_emb_len, tokens + model.puzzle_emb_len
    return {"none": 0, "attention": length * length, "axial": tokens * (math.isqrt(tokens) + before) + before * length}[mixer]


def _heads_work(model: ModelConfig, tokens: int) -> int:
    """Count the token logits and the two Q values of one sequence."""
    return 2 * model.hidden_size * ((tokens + model.puzzle_emb_len) * model.patch**2 * model.vocab_size + 2)


def training_bytes(model: ModelConfig, tokens: int, batch: int, *, element: int, fused_attention: bool) -> int:
    """Estimate the peak bytes of one training segment of `batch` sequences of `tokens` cells, in numbers of `element` bytes.

    A block keeps its input, three projections and their turned copies, the attention's output, two sums and norms, the gated
    values and their factors, with a convolution their grid and its result too; written-out attention keeps two tables of queries by
    keys a head besides. With the one-step gradient only the last cycle's blocks keep anything.
    """
    tokens = model.grid_tokens(tokens)
    length, width = tokens + model.puzzle_emb_len, model.hidden_size
    inner = feed_forward_width(width, model.expansion)
    kept = length * (element * (14 * width + (5 + 3 * bool(model.conv_size)) * inner) + 4 * 6 * width)
    tables = 0 if fused_attention else 2 * element * model.num_heads
    slow = model.H_layers * (kept + tables * keys_seen(model, tokens, model.H_mixer))
    fast = model.L_layers * (kept + tables * keys_seen(model, tokens, model.L_mixer))
    cycles, l_updates = (model.H_cycles, model.L_cycles) if model.gradient == "all" else (1, 1)
    logits = length * model.patch**2 * model.vocab_size * 4 * 6
    blocks = cycles * (l_updates * fast + slow)
    return sum(math.prod(shape) for _, shape in model_shapes(model)) * _BYTES_PER_PARAMETER + batch * (blocks + logits)


def batch_that_fits(free_bytes: int, model: ModelConfig, tokens: int, batch: int, *, element: int, fused_attention: bool) -> int:
    """Halve `batch` until a training segment of it fits into `free_bytes`; at least 1."""
    while batch > 1 and training_bytes(model, tokens, batch, element=element, fused_attention=fused_attention) > 0.9 * free_bytes:
        batch //= 2
    return batch


class Speed:
    """Seconds of a segment as overhead + work / rate, fitted by least squares to what was measured; neither is negative."""

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    @property
    def measured(self) -> bool:
        """Return whether anything was measured yet."""
        return self._n > 0

    def observe(self, work: float, seconds: float, segments: int) -> None:
        """Learn that `segments` segments of `work` operations each took `seconds` in all."""
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

    def seconds(self, work: float) -> float:
        """Predict the seconds of a segment of `work` operations. Something must have been measured."""
        spread = self._n * self._xx - self._x * self._x
        # Works that hardly differ say nothing of the overhead.
        if spread > 1e-4 * self._n * self._xx:
            slope = (self._n * self._xy - self._x * self._y) / spread
            overhead = (self._y - slope * self._x) / self._n
            if slope < 0:
                return self._y / self._n
            if overhead >= 0:
                return overhead + slope * work
        return self._xy / self._xx * work
