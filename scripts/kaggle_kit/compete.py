"""Point the kit at a competition: what its TOML says goes into both kernel-metadata.json and the notebook's first cell."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from hrm_submit.core.files import write_atomic
from kaggle_kit.client import ShipError
from kaggle_kit.competition import Competition, load_competition
from kaggle_kit.package import MAIN, METADATA, PRETRAIN, dump, read_object
from kaggle_kit.ship import say

NOTEBOOK = Path("notebook", "submission.ipynb")


def compete(args: argparse.Namespace) -> None:
    """Write the competition into the files below `args.root`. Raises UserError, or ShipError before anything is written."""
    competition = load_competition(args.competition)
    named = {"competition_sources": [competition.slug], "machine_shape": competition.machine_shape}
    try:
        new = {
            args.root / folder / METADATA: dump(read_object(args.root, (folder / METADATA).as_posix()) | named)
            for folder in (MAIN, PRETRAIN)
        }
        new[args.root / NOTEBOOK] = with_constants((args.root / NOTEBOOK).read_text(encoding="utf-8"), competition)
    except (OSError, ValueError) as error:
        raise ShipError(str(error)) from error
    for path, text in new.items():
        write_atomic(path, text)
    say(f"{', '.join(str(path.relative_to(args.root)) for path in new)}: {competition.title}, {competition.hours:g} h")


def with_constants(notebook: str, competition: Competition) -> str:
    """The notebook's text with this competition's slug, hours and cards in its first cell. Raises ValueError where one has no place."""
    for pattern, value in (
        (r'("COMPETITION = \\")[^\\]*(\\"\\n")', competition.slug),
        (r'("SESSION_HOURS, REHEARSE_HOURS, SMOKE_HOURS = )[\d.]+(,)', f"{float(competition.hours)}"),
        (r'("CARDS = )\d+( )', str(competition.cards)),
    ):
        notebook, n = re.subn(pattern, rf"\g<1>{value}\g<2>", notebook)
        if n != 1:
            raise ValueError(f"{NOTEBOOK}: {n} lines instead of one like {pattern}")
    return notebook
