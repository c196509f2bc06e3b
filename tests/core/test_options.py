"""Options declared as dataclass fields: what the command line gives for each kind of field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from hrm_submit.core.errors import UserError
from hrm_submit.core.options import OneLineParser, add_options, described, from_args, option


def seconds(text: str) -> float:
    if not text.endswith("s"):
        raise UserError(f"not a duration: {text!r}")
    return float(text[:-1])


@dataclass(frozen=True, kw_only=True)
class Options:
    files: tuple[Path, ...] = option("F", name="files")
    output: Path = option("F")
    budget: float | None = option("T", name="--time-budget", parse=seconds, one_of="limit", default=None)
    work: int | None = option("N", one_of="limit", default=None)
    ids: tuple[str, ...] = option("ID,ID", default=("all",))
    answers: str | None = option("F", const="", default=None)
    strict: bool = option(help="refuse faults", default=False)
    note: str = "not an option"


def given(line: str) -> Options:
    parser = OneLineParser(prog="test")
    add_options(parser, Options)
    return from_args(Options, parser.parse_args(line.split()))


def test_what_is_not_given_has_the_default_of_the_dataclass() -> None:
    assert given("a --output o --work 3") == Options(files=(Path("a"),), output=Path("o"), work=3)


def test_every_kind_of_field_is_converted() -> None:
    found = given("a b --output o --time-budget 5s --ids x,,y, --answers --strict")
    assert found.files == (Path("a"), Path("b"))
    assert (found.budget, found.work, found.ids, found.answers, found.strict) == (5.0, None, ("x", "y"), "", True)
    assert described(found)["output"] == "o" and described(found)["note"] == "not an option"


@pytest.mark.parametrize(
    "line",
    ["a --work 3", "--output o --work 3", "a --output o", "a --output o --work 3 --time-budget 5s", "a --output o --work x"],
)
def test_wrong_lines_are_refused_in_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        given(line)
    assert ended.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


def test_a_fault_that_a_parser_names_reaches_the_caller() -> None:
    with pytest.raises(UserError, match="not a duration: 'soon'"):
        given("a --output o --time-budget soon")
