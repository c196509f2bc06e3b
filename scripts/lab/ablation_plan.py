"""Read a plan file: one set of tasks, one amount, and the variants that share both. Loads nothing but the file itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from hrm_submit.config.preset_files import from_dict, read_toml
from hrm_submit.core.errors import ConfigError

Kind = Literal["train", "ttt"]
Unit = Literal["seconds", "flops", "examples"]
ClockName = Literal["cpu", "wall"]

UNITS: tuple[Unit, ...] = ("seconds", "flops", "examples")
TABLES = ("model", "train", "ttt", "vote", "device")
"""Tables of a preset that a variant may change."""


@dataclass(frozen=True)
class TaskChoice:
    """Tasks of the set `data`, or of the file `challenges` with its `solutions` (found beside it if not named): those of `ids`, or
    `number` (0: all) drawn by `seed` from those whose canvas has at most `max_side` cells a side."""

    data: str = ""
    challenges: str = ""
    solutions: str = ""
    max_side: int = 30
    number: int = 0
    seed: int = 0
    ids: list = field(default_factory=list)

    @property
    def source(self) -> str:
        """The set's name or the file."""
        return self.data or self.challenges


@dataclass(frozen=True)
class Variant:
    """One line of the table; `changes` are tables of a preset to lay over `preset`."""

    name: str
    preset: str
    checkpoint: str
    amount_factor: float
    seeds: tuple[int, ...]
    changes: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Plan:
    """A plan file, checked as far as that needs no data: `amount` is in `unit`, `clock` says which seconds count."""

    path: Path
    kind: Kind
    about: str
    unit: Unit
    amount: float
    clock: ClockName
    device: str
    tasks: TaskChoice
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class _PlanTable:
    kind: Kind = "train"
    about: str = ""
    preset: str = "nano"
    checkpoint: str = "none"
    seconds: float = 0.0
    flops: float = 0.0
    examples: float = 0.0
    seeds: list = field(default_factory=list)
    clock: ClockName = "cpu"
    device: str = "cpu"
    tasks: dict = field(default_factory=dict)
    base: dict = field(default_factory=dict)
    variant: list = field(default_factory=list)


@dataclass(frozen=True)
class _VariantTable:
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


def read_plan(path: Path) -> Plan:
    """Read and check a plan. Raises ConfigError, one line, for whatever it should not say."""
    content = read_toml(path)
    if "kind" not in content:
        raise ConfigError(f'{path}: should say kind = "train" or "ttt"')
    table = from_dict(_PlanTable, content, where=str(path))
    given = [unit for unit in UNITS if unit in content]
    if len(given) != 1:
        raise ConfigError(f"{path}: exactly one of {', '.join(UNITS)} says how much a run gets, not {' and '.join(given) or 'none'}")
    amount = float(content[given[0]])
    if amount <= 0:
        raise ConfigError(f"{path}: {given[0]} must be above 0")
    if table.device != "cpu" and table.clock == "cpu":
        raise ConfigError(f'{path}: on {table.device} say clock = "wall": CPU seconds tell nothing of it')
    if not table.tasks:
        raise ConfigError(f"{path}: needs [tasks]")
    unknown = [name for name in table.base if name not in TABLES]
    if unknown:
        raise ConfigError(f"{path}: [base] has no table {unknown[0]!r}; known: {', '.join(TABLES)}")
    tasks, variants = _choice(table.tasks, f"{path}: [tasks]"), _variants(table, path)
    return Plan(path, table.kind, table.about, given[0], amount, table.clock, table.device, tasks, variants)


def _choice(values: Mapping[str, Any], where: str) -> TaskChoice:
    choice = from_dict(TaskChoice, values, where=where)
    if bool(choice.data) == bool(choice.challenges):
        raise ConfigError(f"{where} should name either data or challenges")
    if choice.solutions and not choice.challenges:
        raise ConfigError(f"{where} solutions go with challenges, a named set has its own")
    if not all(isinstance(task_id, str) for task_id in choice.ids):
        raise ConfigError(f"{where} ids should be strings")
    if choice.ids and any(key in values for key in ("max_side", "number", "seed")):
        raise ConfigError(f"{where} either lists ids or draws by max_side, number and seed")
    if choice.max_side < 1 or choice.number < 0 or choice.seed < 0:
        raise ConfigError(f"{where} max_side must be at least 1, number and seed not negative")
    return choice


def _variants(plan: _PlanTable, path: Path) -> tuple[Variant, ...]:
    if not plan.variant:
        raise ConfigError(f"{path}: has no [[variant]]")
    merged: dict[str, dict[str, Any]] = {}
    for number, values in enumerate(plan.variant, 1):
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: variant {number} is not a table")
        table = from_dict(_VariantTable, values, where=f"{path}: variant {values.get('name', number)!r}")
        name = table.name
        if not name or name in merged:
            raise ConfigError(f"{path}: variant {number} needs a name of its own" + (f", not again {name!r}" if name else ""))
        if "," in name:
            raise ConfigError(f"{path}: variant {name!r}: a name has no comma, by which --only separates them")
        if table.like and table.like not in merged:
            raise ConfigError(f"{path}: variant {name!r} is like {table.like!r}, which is no variant before it")
        merged[name] = _over(merged.get(table.like, {}), values)
    return tuple(_variant(plan, own, f"{path}: variant {name!r}") for name, own in merged.items())


def _variant(plan: _PlanTable, own: Mapping[str, Any], where: str) -> Variant:
    seeds = own.get("seeds") or plan.seeds or [0]
    if not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds) or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{where}: seeds should be different whole numbers from 0")
    factor = float(own.get("amount_factor", 1.0))
    if factor <= 0:
        raise ConfigError(f"{where}: amount_factor must be above 0")
    changes = (plan.base, {t: own[t] for t in TABLES if t in own})
    idle = "ttt" if plan.kind == "train" else "train"
    if any(idle in tables for tables in changes):
        raise ConfigError(f"{where} changes [{idle}], which kind {plan.kind!r} does not read")
    return Variant(own["name"], own.get("preset") or plan.preset, own.get("checkpoint") or plan.checkpoint, factor, tuple(seeds), changes)


def _over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `values` over `base`, tables key by key."""
    merged = dict(base)
    for key, value in values.items():
        merged[key] = {**cast(dict, merged.get(key, {})), **value} if isinstance(value, dict) else value
    return merged
