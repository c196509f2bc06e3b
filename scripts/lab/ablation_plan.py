"""Read a plan file: one set of tasks, one amount, and the variants that share both. Loads nothing but the file itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from hrm_submit.config.preset_files import from_dict, read_toml
from hrm_submit.core.errors import ConfigError

Kind = Literal["train", "ttt"]

UNITS = ("seconds", "flops", "examples")
TABLES = ("model", "train", "ttt", "vote", "device")
"""Tables of a preset that a variant may change."""


@dataclass(frozen=True)
class TaskChoice:
    """Tasks of `data`, a set or a file with its solutions: `number` (0: all) drawn by `seed` from those (of `ids`, where they are listed)
    whose canvas has at most `max_side` cells a side."""

    data: str = ""
    max_side: int = 30
    number: int = 0
    seed: int = 0
    ids: list = field(default_factory=list)


@dataclass(frozen=True)
class Variant:
    """One line of the table: a checkpoint to start from, and tables of a preset to lay over `preset`."""

    name: str = ""
    like: str = ""
    preset: str = ""
    checkpoint: str = ""
    amount_factor: float = 1.0
    seeds: list = field(default_factory=list)
    model: dict = field(default_factory=dict)
    train: dict = field(default_factory=dict)
    ttt: dict = field(default_factory=dict)
    vote: dict = field(default_factory=dict)
    device: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A plan file. Of `seconds`, `flops` and `examples` the one above 0 says how much a run gets; `clock` says which seconds count."""

    kind: Kind = "train"
    about: str = ""
    preset: str = "nano"
    checkpoint: str = "none"
    seconds: float = 0.0
    flops: float = 0.0
    examples: float = 0.0
    seeds: list = field(default_factory=lambda: [0])
    clock: Literal["cpu", "wall"] = "cpu"
    device: str = "cpu"
    tasks: dict = field(default_factory=dict)
    base: dict = field(default_factory=dict)
    variant: list = field(default_factory=list)
    path: Path = Path()

    @property
    def unit(self) -> str:
        """The unit of `amount`."""
        return next(unit for unit in UNITS if getattr(self, unit) > 0)

    @property
    def amount(self) -> float:
        """How much a run gets, or each of its tasks where `kind` is "ttt"."""
        return float(getattr(self, self.unit))

    @property
    def choice(self) -> TaskChoice:
        """The choice of tasks. Raises ConfigError."""
        where = f"{self.path}: [tasks]"
        choice = from_dict(TaskChoice, self.tasks, where=where)
        if not choice.data:
            raise ConfigError(f"{where} should name data: a set or a file")
        if choice.max_side < 1 or choice.number < 0 or choice.seed < 0:
            raise ConfigError(f"{where} max_side must be at least 1, number and seed not negative")
        return choice

    def variants(self) -> list[Variant]:
        """Lay each variant over the one it is like, or over [base], and over the plan's own keys. Raises ConfigError."""
        merged: dict[str, dict[str, Any]] = {}
        found = []
        for number, values in enumerate(self.variant, 1):
            name, like = (values.get("name"), values.get("like")) if isinstance(values, dict) else (None, None)
            where = f"{self.path}: variant {name!r}"
            if not isinstance(name, str) or not name or name in merged:
                raise ConfigError(f"{self.path}: variant {number} needs a name of its own" + (f", not again {name!r}" if name else ""))
            if like and like not in list(merged):
                raise ConfigError(f"{where} is like {like!r}, which is no variant before it")
            merged[name] = _over(merged[like] if like else self.base, values)
            plain = Variant(preset=self.preset, checkpoint=self.checkpoint, seeds=self.seeds)
            found.append(from_dict(Variant, merged[name], plain, where))
            self._check(found[-1], where)
        return found

    def _check(self, variant: Variant, where: str) -> None:
        seeds = variant.seeds
        if not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds) or len(set(seeds)) < len(seeds):
            raise ConfigError(f"{where}: seeds should be different whole numbers from 0")
        if variant.amount_factor <= 0:
            raise ConfigError(f"{where}: amount_factor must be above 0")
        idle = "ttt" if self.kind == "train" else "train"
        if getattr(variant, idle):
            raise ConfigError(f"{where} changes [{idle}], which kind {self.kind!r} does not read")


def read_plan(path: Path) -> Plan:
    """Read and check a plan. Raises ConfigError, one line, for whatever it should not say."""
    plan = from_dict(Plan, read_toml(path), Plan(path=path), str(path))
    given = [unit for unit in UNITS if getattr(plan, unit) > 0]
    if len(given) != 1:
        raise ConfigError(
            f"{path}: exactly one of {', '.join(UNITS)}, above 0, says how much a run gets, not {' and '.join(given) or 'none'}"
        )
    if plan.device != "cpu" and plan.clock == "cpu":
        raise ConfigError(f'{path}: on {plan.device} say clock = "wall": CPU seconds tell nothing of it')
    if not plan.choice or not plan.variants():
        raise ConfigError(f"{path}: has no [[variant]]")
    return plan


def _over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `values` over `base`, tables key by key."""
    merged = dict(base)
    for key, value in values.items():
        merged[key] = {**cast(dict, merged.get(key, {})), **value} if isinstance(value, dict) else value
    return merged
