"""Every hyper-parameter that has a name: frozen dataclasses, one for each table of a preset.

Field names of `ModelConfig` are those of the published HRM wherever it has them.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from hrm_submit.core.errors import ConfigError, clipped

Mixer: TypeAlias = Literal["attention", "axial", "none"]
"""How cells see each other in a block, besides convolutions."""
Kernels: TypeAlias = Literal["torch", "numba"]
CodeKind: TypeAlias = Literal["sight", "objects", "frequency", "mirror"]
"""What the model may be told of a cell besides its token (`arc/codes.py`)."""
CODE_SIZES: Mapping[CodeKind, tuple[int, ...]] = {
    "sight": (11, 11, 11, 11),
    "objects": (9, 6, 3, 16, 4, 2),
    "frequency": (10,),
    "mirror": (11, 11, 11),
}
"""Number of codes of each feature, by kind."""
VoteRule: TypeAlias = Literal["counts", "composite"]
Engine: TypeAlias = Literal["plain", "compile", "reduce-overhead"]
"""How the blocks of a model run: as written, by torch.compile, or by that with CUDA graphs."""
TOLERANCES: Mapping[str, tuple[float, float]] = {"float32": (0.02, 0.003), "bfloat16": (0.1, 0.03), "float16": (0.1, 0.003)}
"""By number format: how far an engine that agrees may be from plain float32, in its losses (relative) and in the probabilities of its first
predictions (half the sum over a cell's tokens, mean over cells). Six times what was measured on a CPU (docs/speed.md), but for float32 what
float16 measured (a GPU may round the factors of convolutions as far), and for losses in float16 what bfloat16 did."""

LARGEST = 1_000_000
"""Upper bound of every size of a model; a larger one is a mistake."""
ABOVE_0, BELOW_1 = math.nextafter(0.0, 1.0), math.nextafter(1.0, 0.0)


def _check(config: object, names: str, least: float, most: float = math.inf) -> None:
    """Raise ConfigError for the first field of `names`, separated by blanks, that does not lie within `least`..`most`."""
    for name in names.split():
        value = getattr(config, name)
        if not least <= value <= most:
            floor = "above 0" if least == ABOVE_0 else f"at least {least}"
            ceiling = "" if most == math.inf else " and below 1" if most == BELOW_1 else f" and at most {most}"
            table = type(config).__name__.removesuffix("Config").lower()
            raise ConfigError(f"[{table}] {name} must be {floor}{ceiling}, not {clipped(value, 40)}")


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of an HRM; fixed by a checkpoint. Published fields first (arXiv:2506.21734 and its code)."""

    hidden_size: int = 512
    num_heads: int = 8
    expansion: float = 4.0
    H_layers: int = 4
    L_layers: int = 4
    H_cycles: int = 2
    L_cycles: int = 2
    vocab_size: int = 12
    seq_len: int = 900
    """Number of position ids; a canvas of any size uses ids below it."""
    puzzle_emb_ndim: int = 512
    """Width of a task embedding; it fills ceil(puzzle_emb_ndim / hidden_size) tokens before the grid. 0: none."""
    pos_encodings: Literal["rope", "rope_2d", "learned"] = "rope"
    """`rope` turns by the position id, a grid read as one long row (published); `rope_2d` by row and column apart."""
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    halt_max_steps: int = 16
    """Most segments (ACT steps) that one sequence gets."""
    halt_exploration_prob: float = 0.1
    loss_type: Literal["stablemax_cross_entropy", "softmax_cross_entropy"] = "stablemax_cross_entropy"
    continue_target: bool = True
    """Train the continue-Q on a bootstrapped target: a second forward of every training segment (published)."""
    gradient: Literal["last", "all"] = "last"
    """Back-propagate through the last inner step only (published one-step gradient) or through all of them."""
    embedding: Literal["augmented", "shared"] = "augmented"
    """One learned row per *augmented* task (published), or one per task plus one per dihedral transform."""
    conv_size: int = 0
    """Side of a depthwise convolution over the grid in each block's MLP, an odd number (ConvSwiGLU, arXiv:2512.14693); 0: none."""
    H_mixer: Mixer = "attention"
    """`attention` of all cells to all, `axial` (half of the heads see a cell's row, half its column: arXiv:1912.12180), or `none`."""
    L_mixer: Mixer = "attention"
    codes: tuple[CodeKind, ...] = ()
    """Kinds of codes of the input's cells that are added to their embedding."""
    patch: int = 1
    """Side of the square of cells that is one token, each place in it with an embedding and an output of its own: large grids cost less."""

    def __post_init__(self) -> None:
        _check(self, "patch", 1, 30)
        _check(self, "hidden_size num_heads H_layers L_layers H_cycles L_cycles vocab_size seq_len halt_max_steps", 1, LARGEST)
        _check(self, "puzzle_emb_ndim conv_size", 0, LARGEST)
        _check(self, "expansion rope_theta rms_norm_eps", ABOVE_0, 1e9)
        _check(self, "halt_exploration_prob", 0, 1)
        if self.hidden_size % self.num_heads:
            raise ConfigError(f"[model] hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        turned = {"rope": 2, "rope_2d": 4, "learned": 1}[self.pos_encodings]
        if self.hidden_size // self.num_heads % turned:
            raise ConfigError(f"[model] {self.pos_encodings} needs a head width (hidden_size / num_heads) that {turned} divides")
        if "axial" in (self.H_mixer, self.L_mixer) and (self.num_heads % 2 or self.pos_encodings == "rope"):
            raise ConfigError("[model] axial needs an even num_heads, and rope_2d or learned positions")
        if self.conv_size and not self.conv_size % 2:
            raise ConfigError(f"[model] conv_size {self.conv_size} is neither 0 nor an odd number")
        if self.patch > 1 and ("attention" in (self.H_mixer, self.L_mixer) or self.pos_encodings != "rope_2d"):
            raise ConfigError("[model] patch above 1 needs rope_2d, and no mixer that is attention of all to all")
        if len(set(self.codes)) < len(self.codes):
            raise ConfigError(f"[model] codes names a kind twice: {list(self.codes)}")

    @property
    def puzzle_emb_len(self) -> int:
        """Tokens that the task embedding fills before the grid."""
        return -(-self.puzzle_emb_ndim // self.hidden_size)

    def grid_tokens(self, cells: int) -> int:
        """Return how many tokens a square canvas of `cells` cells is."""
        return (-(-math.isqrt(cells) // self.patch)) ** 2 if self.patch > 1 else cells

    @property
    def n_codes(self) -> int:
        """Codes that the features of `codes` have together."""
        return sum(sum(CODE_SIZES[kind]) for kind in self.codes)


def feed_forward_width(hidden_size: int, expansion: float) -> int:
    """Inner width of SwiGLU: two thirds of the nominal expansion, rounded up to a multiple of 256 (published)."""
    return -(-round(expansion * hidden_size * 2 / 3) // 256) * 256


@dataclass(frozen=True)
class TrainConfig:
    """Training: table `[train]` for pre-training; `[ttt]` has the same fields and more."""

    optimizer: Literal["muon", "adamw", "adam_atan2"] = "adam_atan2"
    """`muon`: Muon for the matrices of the blocks, AdamW for the rest (`train.optimizers`)."""
    lr: float = 1e-4
    muon_lr: float = 5e-3
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    embedding_lr: float = 1e-2
    embedding_weight_decay: float = 0.1
    batch_size: int = 768
    segments: int = 16
    """Most segments of a sequence before another takes its slot (at most halt_max_steps)."""
    single_segment_fraction: float = 0.0
    """First share of the run with a single segment a sequence; `segments` apply after it."""
    warmup_steps: int = 2000
    decay_fraction: float = 0.0
    """Last share of the run (of its steps or its seconds) over which the rate falls linearly to lr_min_ratio."""
    lr_min_ratio: float = 1.0
    colours: Literal["permute", "permute_input", "fixed"] = "permute"
    """Colours that augmentation permutes: all but 0 (published), also not those that an output has and its own input lacks, or none."""
    translate: bool = True
    """Random placement on the canvas where there is room (published)."""
    augmentations: int = 1000
    """Augmented versions of each task, the original included, that training and votes draw from."""
    code_dropout: float = 0.0
    """Probability with which each kind of codes is left out of an example, for a model that has `codes`."""
    max_side: int = 30
    """Pre-training leaves out tasks that need a larger canvas than this side. In `[ttt]`: other members train them, if any do."""
    min_side: int = 1
    """Pre-training leaves out what needs no larger canvas than one below this side; in `[ttt]` as `max_side`."""
    batch_tokens: int = 0
    """Pre-training: most cells of a batch, so that large canvases get fewer examples (at least one a process); 0: no limit."""

    def __post_init__(self) -> None:
        _check(self, "batch_size segments augmentations max_side min_side", 1)
        _check(self, "lr muon_lr embedding_lr weight_decay embedding_weight_decay warmup_steps batch_tokens", 0)
        _check(self, "decay_fraction lr_min_ratio single_segment_fraction code_dropout", 0, 1)
        _check(self, "beta1 beta2", 0, BELOW_1)


@dataclass(frozen=True)
class TTTConfig(TrainConfig):
    """Test-time training of one task: table `[ttt]`."""

    max_segments: int = 1_000_000
    """Most training segments that a task gets, however much time it has."""
    first_vote: float = 0.05
    """Share of a task's time (or segments) before the first mid-run vote, which improves the answer on disk."""
    patience: int = 4
    """Stop early when this many votes in a row gave the same first attempts, each with at least `agreement` of its output's votes,
    while at least `fit` of the augmented demonstrations came out exactly right. A fit alone is no reason to stop: training on after
    it still turns wrong answers into right ones."""
    agreement: float = 0.9
    fit: float = 0.9
    pool_exact: float = 0.5
    """A mid-run vote counts with the last one if at least this share of the augmented demonstrations was exact; above 1 none does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "first_vote", ABOVE_0, 1)
        _check(self, "agreement fit pool_exact", 0, 2)
        _check(self, "max_segments patience", 1)


@dataclass(frozen=True)
class VoteConfig:
    """Inference and voting: table `[vote]`."""

    views: int = 32
    """Augmented views of each test input in the last vote; mid-run votes use a quarter."""
    act_steps: int = 16
    """ACT steps at inference (at most halt_max_steps)."""
    halt: Literal["never", "rest"] = "never"
    """When a view ends before `act_steps`: `never` (published), or at `rest`, when the entropy of its prediction no longer changes."""
    batch_size: int = 32
    rule: VoteRule = "composite"
    """`counts`: candidates rank by the views that gave each; `composite`: also a tenth of all votes for the most probable colours."""
    save_raw: bool = False
    """Write the predictions of each task's last vote to `raw/` of the run folder, up to 22 kB a view before compression, for
    `scripts/compare_votes.py`."""

    def __post_init__(self) -> None:
        _check(self, "views act_steps batch_size", 1)


@dataclass(frozen=True)
class SolveConfig:
    """What trains a task: table `[solve]`."""

    members: tuple[str, ...] = ()
    """Weights that train each task too, after those of the run, with equal parts of its time: names of packaged ones, or files. Each has
    its own model and preset, the votes of all are pooled. Kinds that differ fail in different places; seeds of one kind hardly do."""


@dataclass(frozen=True)
class BudgetConfig:
    """How a run divides its time: table `[budget]`."""

    reserve: float = 0.01
    """Share of the budget kept for the last votes, the last write and the workers' exit."""
    reserve_min_seconds: float = 4.0
    """Least reserve: on a busy machine the exit of an interpreter that has loaded torch alone takes more than a second."""
    hang_seconds: float = 300.0
    """Seconds of silence after which a worker counts as hung; below 50 minutes a tenth of the budget, at least 20 s."""
    size_power: float = 0.0
    """Shares grow with this power of what a task's segment costs: 0 is equal seconds for all tasks, 1 equal segments. Where time is
    scarce, a second is worth more on a small task; the presets of GPUs have 0.5. `scripts/tune_budget.py` compares."""
    pairs_power: float = 0.25
    """Shares grow with this power of a task's number of demonstration pairs."""
    restart_least: float = 0.5
    """Freed time goes to tasks whose votes disagree, each trained anew from another seed for at least this part of its first share."""

    def __post_init__(self) -> None:
        _check(self, "reserve", 0, BELOW_1)
        _check(self, "reserve_min_seconds", 0)
        _check(self, "hang_seconds", ABOVE_0)
        _check(self, "size_power pairs_power", 0, 2)
        _check(self, "restart_least", ABOVE_0, 10)


@dataclass(frozen=True)
class DeviceConfig:
    """Devices, workers and number format: table `[device]`."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    attention: Literal["auto", "sdpa", "math"] = "auto"
    kernels: Literal["auto", "torch", "numba"] = "auto"
    """Norms, SwiGLU, convolutions and axial attention on a CPU: `torch`, or compiled by `numba` for one thread. `auto`: numba unless
    torch.compile is on. GPUs always use torch."""
    engine: Literal["auto", "plain", "compile", "reduce-overhead"] = "auto"
    """How the blocks run. `auto`: `plain`; but a long run of `solve` compares the engines, and the number formats if `dtype` is `auto`, on
    each kind of GPU with its first task, and takes the fastest that agrees."""
    workers: int = 0
    """Worker processes on a CPU; 0: one for each core."""
    threads: int = 1
    """CPU threads of each worker."""
    workers_per_gpu: int = 0
    """Worker processes on each GPU; 0: as many as its memory holds while a single one would leave it idle, at most 4."""

    weights: str = ""
    """Packaged weights that suit the device, the best first, separated by blanks: a run without --checkpoint takes the first that the
    package has, and last those of `nano`."""
    card: str = ""
    """The GPU that a preset is for, as a word or words of the name that CUDA gives it: by this, `count`, `capability` and `memory_gib` a
    run without --preset finds the preset of its machine."""
    count: int = 0
    """GPUs of the machine that a preset is for; 0: a CPU. A run takes the GPUs that it finds."""
    capability: float = 0.0
    """CUDA capability of each of them."""
    memory_gib: float = 0.0
    """Free memory of each of them."""

    def __post_init__(self) -> None:
        _check(self, "workers workers_per_gpu count capability memory_gib", 0)
        _check(self, "threads", 1)


@dataclass(frozen=True)
class Preset:
    """All tables of a preset, layered and checked."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    ttt: TTTConfig = field(default_factory=TTTConfig)
    vote: VoteConfig = field(default_factory=VoteConfig)
    solve: SolveConfig = field(default_factory=SolveConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain tables, as a preset file would have them."""
        return dataclasses.asdict(self)
