"""The options of `solve`."""

from dataclasses import dataclass
from pathlib import Path

from hrm_submit.arc.options import ChoiceOptions
from hrm_submit.core.clock import parse_duration
from hrm_submit.core.errors import ConfigError
from hrm_submit.core.options import option

RANDOM_WEIGHTS = "none"


@dataclass(frozen=True, kw_only=True)
class SolveOptions(ChoiceOptions):
    """What `solve` does; tasks that are not chosen get fallback answers.

    `budget` is in seconds, and exactly one of `budget` and `segments` is given. Raises ConfigError.
    """

    challenges: Path = option("F")
    output: Path = option("F", "the submission file")
    checkpoint: str | None = option(
        "F|none",
        "weights to start from: a file or none (default: the package's own, where the preset suits them)",
        default=None,
    )
    budget: float | None = option(
        "11h30m",
        "end within this time, whatever happens",
        name="--time-budget",
        parse=parse_duration,
        one_of="limit",
        default=None,
    )
    segments: int | None = option("N", "fixed work: same seed, same file", name="--segments-per-task", one_of="limit", default=None)
    run_dir: Path = option("D", "run folder, from which a killed run resumes (default: OUTPUT with .run)", default=Path())
    presets: str = option("NAME[,NAME]", "layered left to right (default: the checkpoint's, else nano)", name="--preset", default="")
    devices: str = option("auto|cpu|cuda:0,...", default="auto")
    cluster: str = option("ADDRESS|auto|local", "work on all machines of a Ray cluster instead (needs Ray)", default="")
    cores_per_worker: int = option("N", "CPU cores of each worker of a cluster (default: 1)", default=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, value in (("segments-per-task", self.segments), ("cores-per-worker", self.cores_per_worker)):
            if value is not None and value < 1:
                raise ConfigError(f"--{flag} must be at least 1, not {value}")
        if not self.output.name:
            raise ConfigError(f"--output {self.output} names no file")
        if self.cluster and self.devices != "auto":
            raise ConfigError("--cluster takes the devices of the cluster: leave --devices out")
        if self.run_dir == Path():
            object.__setattr__(self, "run_dir", self.output.with_name(self.output.name + ".run"))
