"""A competition as data, from `competitions/SLUG.toml`; `compete` writes it into both kernels' metadata and the notebook."""

import argparse
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import date
from pathlib import Path

from hrm_submit.config.preset_files import from_dict, read_toml
from hrm_submit.core.errors import ConfigError
from hrm_submit.core.files import write_atomic

from .client import ShipError, say
from .kernel import MAIN, METADATA, PRETRAIN, Kernel, dump, read_object
from .paths import COMPETITIONS, ROOT

DEFAULT = "arc-prize-2026-arc-agi-2"
NOTEBOOK = Path("notebook", "submission.ipynb")
READ_BY_THE_NOTEBOOK = ("test_challenges", "evaluation_challenges", "sample_submission")


@dataclass(frozen=True)
class Competition:
    """What the kit needs to know of a competition.

    `cards` are the GPUs of its machine, `checkpoint` is the path of the weights to ship, from the root of the repository, `files` maps a
    role such as `test_challenges` to a file name. `closed` is the last day of submissions, where it is known.
    """

    slug: str
    title: str
    hours: float
    hidden_tasks: int
    machine_shape: str
    cards: int
    checkpoint: str
    files: Mapping[str, str]
    closed: date = date.max


def load_competition(slug: str = DEFAULT, folder: Path = COMPETITIONS) -> Competition:
    """Read `folder/SLUG.toml`, or the TOML file that `slug` names. Raises ConfigError."""
    path = Path(slug) if slug.endswith(".toml") else folder / f"{slug}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise ConfigError(f"unknown competition {slug!r}; known: {known}, or a TOML file")
    values = read_toml(path)
    if missing := [field.name for field in fields(Competition) if field.default is MISSING and field.name not in values]:
        raise ConfigError(f"{path.name}: no {missing[0]}")
    competition = from_dict(Competition, values, where=path.name)
    if not all(isinstance(file, str) for file in competition.files.values()):
        raise ConfigError(f"{path.name}: [files] should hold names of files")
    for role in READ_BY_THE_NOTEBOOK:
        if not competition.files.get(role, "").endswith(f"{role}.json"):
            raise ConfigError(f"{path.name}: [files] {role} should be a name like *{role}.json, which is what the notebook looks for")
    return competition


def entered() -> Competition:
    """The competition of kernel-metadata.json. Raises ConfigError."""
    return load_competition(Kernel.read(ROOT, owner="anyone").competition)


def say_if_closed(slug: str, today: date) -> None:
    """Tell that the competition is closed and what still works, if it has a TOML file that says so."""
    path = COMPETITIONS / f"{slug}.toml"
    if path.is_file() and today > (closed := load_competition(slug).closed):
        works = "notebooks still run, and Kaggle may take late submissions"
        say(f"{slug}: closed since {closed} ({path.name}); {works}; docs/extend/competition.md says how to enter the next one")


def compete(args: argparse.Namespace) -> None:
    """`compete`: write the competition into the files below `args.root`. Raises UserError before anything is written."""
    competition = load_competition(args.competition)
    named = {"competition_sources": [competition.slug], "machine_shape": competition.machine_shape}
    kernels = {folder / METADATA: read_object(args.root, (folder / METADATA).as_posix()) for folder in (MAIN, PRETRAIN)}
    try:
        notebook = (args.root / NOTEBOOK).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ShipError(f"{NOTEBOOK}: {error}") from error
    for pattern, value in (
        (r'("COMPETITION = \\")[^\\]*(\\"\\n")', competition.slug),
        (r'("SESSION_HOURS, REHEARSE_HOURS, SMOKE_HOURS = )[\d.]+(,)', f"{float(competition.hours)}"),
        (r'("CARDS = )\d+( )', str(competition.cards)),
    ):
        notebook, n = re.subn(pattern, rf"\g<1>{value}\g<2>", notebook)
        if n != 1:
            raise ShipError(f"{NOTEBOOK}: {n} lines instead of one like {pattern}")
    new = {path: dump(kernel | named) for path, kernel in kernels.items()} | {NOTEBOOK: notebook}
    for path, text in new.items():
        write_atomic(args.root / path, text)
    say(f"{', '.join(map(str, new))}: {competition.title}, {competition.hours:g} h")
