"""The options that choose tasks of a set."""

from dataclasses import dataclass
from pathlib import Path

from hrm_submit.core.errors import ConfigError
from hrm_submit.core.options import option, seed


@dataclass(frozen=True, kw_only=True)
class ChoiceOptions:
    """Which tasks to take; `arc.choice.chosen` applies the options in this order. Raises ConfigError for a number below 1."""

    tasks: str | None = option("ID,ID|@F", "only these tasks, or those that the file F lists, an id a line, comments after #", default=None)
    max_side: int | None = option("S", "only tasks whose known grids have at most S rows and columns", default=None)
    unsolved_of: Path | None = option(
        "RUN",
        "only tasks that this run was to solve and leaves open: without a final answer, with votes that disagree or demonstrations that "
        "are not fit; `show --solutions` takes those that it did not solve",
        default=None,
    )
    random: int | None = option("N", "only N of these tasks, drawn by --seed", default=None)
    first: int | None = option("N", "only the first N of these tasks", default=None)
    seed: int = option("N", parse=seed, default=0)

    def __post_init__(self) -> None:
        for flag, value in (("max-side", self.max_side), ("random", self.random), ("first", self.first)):
            if value is not None and value < 1:
                raise ConfigError(f"--{flag} must be at least 1, not {value}")

    @property
    def chooses(self) -> bool:
        """Whether not simply all tasks are meant."""
        return any(value is not None for value in (self.tasks, self.max_side, self.unsolved_of, self.random, self.first))
