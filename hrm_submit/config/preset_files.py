"""Presets layered from TOML files.

`load_preset("nano,quick")` layers left to right over the dataclass defaults; a key that no dataclass knows is an error, so a typo never
passes silently.
"""

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeVar

from hrm_submit.config.schema import Preset
from hrm_submit.core.errors import ConfigError, clipped
from hrm_submit.core.files import check_regular, read_fault

T = TypeVar("T")


def preset_names() -> list[str]:
    """Names of the presets that the package carries."""
    return sorted(p.name[:-5] for p in (resources.files("hrm_submit.config") / "presets").iterdir() if p.name.endswith(".toml"))


def load_preset(names: str, base: Preset | None = None) -> Preset:
    """Layer the presets `"a,b"` left to right over `base` (or the defaults).

    A name is one of `preset_names()` or the path of a TOML file. Raises ConfigError.
    """
    preset = base or Preset()
    for name, tables in read_presets(names):
        preset = layer(preset, tables, source=name)
    return preset


def read_presets(names: str) -> list[tuple[str, dict[str, Any]]]:
    """Name and tables, as written, of each preset of `"a,b"`. Raises ConfigError."""
    listed = [name for name in (n.strip() for n in names.split(",")) if name]
    if names and not listed:
        raise ConfigError(f"--preset {names!r} names no preset")
    found = [(name, read_toml(preset_path(name))) for name in listed]
    for name, tables in found:
        for table, values in tables.items():
            if not isinstance(values, dict):
                raise ConfigError(f"{name}: [{clipped(table, 60)}] is not a table")
    return found


def layer(preset: Preset, tables: Mapping[str, Any], source: str = "preset") -> Preset:
    """`preset` with the keys of `tables` replaced. Raises ConfigError for unknown tables or keys and wrong types."""
    changed: dict[str, Any] = {}
    names = [f.name for f in dataclasses.fields(Preset)]
    for table, values in tables.items():
        if table not in names:
            raise ConfigError(f"{source}: no table [{clipped(table, 60)}]; known: {', '.join(names)}")
        if not isinstance(values, Mapping):
            raise ConfigError(f"{source}: [{table}] is not a table")
        base = getattr(preset, table)
        changed[table] = from_dict(type(base), values, base, f"{source}: [{table}]")
    return dataclasses.replace(preset, **changed)


def from_dict(cls: type[T], values: Mapping[str, Any], base: T | None = None, where: str = "config") -> T:
    """Dataclass `cls` from `values` over `base` (or its defaults), types checked. Raises ConfigError."""
    hints = typing.get_type_hints(cls)
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{where} has no key {clipped(repr(key), 60)}; known: {', '.join(hints)}")
        if not _fits(value, hints[key]):
            raise ConfigError(f"{where} {key} = {clipped(repr(value), 60)} should be {_describe(hints[key])}")
    converted = {k: float(v) if hints[k] is float else tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return cls(**converted) if base is None else dataclasses.replace(base, **converted)  # type: ignore[type-var]


def _fits(value: Any, hint: Any) -> bool:
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind is Literal:
        return isinstance(value, str | int) and value in parts
    if hint in (float, int):
        # Bounded, as an int of thousands of digits is no float and cannot be shown.
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool) and abs(value) < 1e300
    if kind is tuple:
        return isinstance(value, list | tuple) and all(_fits(part, parts[0]) for part in value)
    return isinstance(value, kind or hint)


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(a) for a in typing.get_args(hint))
    return {float: "a number", int: "a whole number", bool: "true or false", str: "a string"}.get(hint, str(hint))


def preset_path(name: str) -> Path | Traversable:
    """The file of a preset of the package, or of a TOML file. Raises ConfigError for an unknown name."""
    if name.endswith(".toml"):
        return Path(name)
    if name not in preset_names():
        raise ConfigError(f"unknown preset {name!r}; known: {', '.join(preset_names())}, or the path of a .toml file")
    return resources.files("hrm_submit.config") / "presets" / f"{name}.toml"


def read_toml(path: Path | Traversable) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError."""
    try:
        if isinstance(path, Path):
            check_regular(path)
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        fault = read_fault(error)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, tables thousands deep
        fault = f"not TOML: {clipped(error, 150)}"
    raise ConfigError(f"{clipped(path)}: {fault}")
