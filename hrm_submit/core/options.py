"""Command-line options as fields of a frozen dataclass: name, type, default and help of an option are declared once.

`add_options` makes argparse options of the fields, `from_args` the instance, `described` its JSON form. The defaults live in the
dataclass alone, so that a caller from Python and the command line get the same ones.
"""

import argparse
import dataclasses
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
MISSING: Any = dataclasses.MISSING


def option(metavar: str | None = None, help: str | None = None, *, default: Any = MISSING, **how: Any) -> Any:
    """A field that is a command-line option, required where it has no default.

    `how`: `name` (default: `--field-name`; without dashes: a positional argument), `parse` (text to value; default: by the field's
    type), `one_of` (a group of which exactly one option is given), `const` (the value of the option without a value).
    """
    return dataclasses.field(default=default, metadata={"option": {"metavar": metavar, "help": help, **how}})


def names(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def seed(text: str) -> int:
    """A seed. Raises ArgumentTypeError."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{text} is not within 0..2^63-1")
    return value


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """Add an option to `parser` for each field of the dataclass `options` made by `option`, inherited ones last."""
    hints, groups = get_type_hints(options), dict[str, Any]()
    for field in sorted(dataclasses.fields(options), key=lambda field: field.name not in options.__annotations__):
        if "option" not in field.metadata:
            continue
        how = dict(field.metadata["option"])
        group, name = how.pop("one_of", None), how.pop("name", f"--{field.name.replace('_', '-')}")
        kind, many = _value_type(hints[field.name])
        how["type"] = how.pop("parse", names if many and name.startswith("-") else kind)
        if name.startswith("-"):
            how |= {"dest": field.name, "required": field.default is MISSING and not group}
        elif many:
            how["nargs"] = "+"
        if kind is bool:
            how = {"dest": field.name, "help": how["help"], "action": "store_true"}
        elif "const" in how:
            how["nargs"] = "?"
        if group and group not in groups:
            groups[group] = parser.add_mutually_exclusive_group(required=True)
        # argparse converts the text of a missing positional argument's default, SUPPRESS too
        default = field.default if how.get("nargs") == "?" and not name.startswith("-") else argparse.SUPPRESS
        (groups[group] if group else parser).add_argument(name, default=default, **how)


def from_args(options: type[T], args: argparse.Namespace) -> T:
    """The instance of `options` with what the command line gave, and with the dataclass's default for the rest."""
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(options) if field.name in args}  # type: ignore[arg-type]
    return options(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def described(options: Any) -> dict[str, Any]:
    """The options as JSON holds them."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _value_type(hint: Any) -> tuple[Callable[[str], Any], bool]:
    """The type of one value, and whether the field holds several."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not types.NoneType)
    return (get_args(hint)[0], True) if get_origin(hint) is tuple else (hint, False)


class OneLineParser(argparse.ArgumentParser):
    """Refuses wrong options in one line, as all other wrong input is refused."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")
