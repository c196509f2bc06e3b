"""The options of `pretrain`."""

from dataclasses import dataclass
from pathlib import Path

from hrm_submit.core.clock import parse_duration
from hrm_submit.core.errors import ConfigError
from hrm_submit.core.options import option, seed

PROTECTED = ("arc-agi-1-evaluation", "arc-agi-2-evaluation")


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """What `pretrain` does. Times are in seconds; exactly one of `budget` and `segments` is given, and both count earlier runs. `data` is
    the mix as `corpora.sources.load_corpora` reads it, `command_line` goes onto the checkpoint's card. Raises ConfigError."""

    presets: str = option("NAME[,NAME]", name="--preset")
    data: str = option("NAME|F[:demos][:weight],...", "what to train on")
    budget: float | None = option(
        "20m", "total, earlier runs included", name="--time-budget", parse=parse_duration, one_of="total", default=None
    )
    segments: int | None = option("N", "total, earlier runs included", one_of="total", default=None)
    out: Path = option("D", "state, metrics and checkpoints")
    resume: bool = option(help="resume from the state in D", default=False)
    start_from: Path | None = option("F", "weights to start from, with fresh optimizers", name="--from", default=None)
    validate: str | None = option("NAME|F", "measure pass@2 by votes on this set; it is never trained on", default=None)
    protect: tuple[str, ...] = option(
        "NAME|F,...",
        "what the weights will be scored on: tasks that share a pair with these sets are left out (default: both evaluation sets)",
        default=PROTECTED,
    )
    every: float = option("10m", "how often to validate (default: 10m)", parse=parse_duration, default=600.0)
    log_every: int = option("N", "segments for each line of metrics.jsonl (default: 20)", default=20)
    devices: str = option("auto|cpu|cuda:0", default="auto")
    threads: int | None = option("N", "threads of each process on a CPU (default: all cores, shared by the ranks)", default=None)
    seed: int = option("N", parse=seed, default=0)
    command_line: str = ""

    def __post_init__(self) -> None:
        for flag, value in (("segments", self.segments), ("threads", self.threads), ("log-every", self.log_every)):
            if value is not None and value < 1:
                raise ConfigError(f"--{flag} must be at least 1, not {value}")
