"""Check README and docs/ without running anything: links, file names, and figures against their records.

    python scripts/docs_check.py           # every page; one line a fault, exit 1 with some
    python scripts/docs_check.py --write   # fills in the tables of docs/figures/ first

A record is docs/figures/NAME.json with `about` (what, command, machine, date), `weights` (SHA-256 of the checkpoint, a list of several, or
null where none of the package's was used), `values` (nested numbers, shares from 0 to 1) and perhaps `table` (rows of column to text).
A page quotes a value as `21.0 %<!-- = evaluation-1 all/pass@2 -->`, a mean of an ablation's variant as
`29.5 %<!-- = ablations/recipe nano/pass@2 -->`, and a table between `<!-- table: evaluation-1 -->` and `<!-- /table -->`.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd
from lab.markdown import to_markdown

from hrm_submit.cli import exit_status
from hrm_submit.core.files import sha256_of

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r"(?ms)^ *```.*?^ *```$|^ {4,}\S[^\n]*")
"""Code blocks, and trees and sketches, which are indented."""
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FIGURE = re.compile(r"([-+]?\d[\d,]*(?:\.\d+)?)( ?%)?<!-- = ([\w./-]+) ([^>]+?) -->")
SHARE = re.compile(r"\d ?%(?!<!-- = )")
NAME = re.compile(r"`((?:hrm_submit|scripts|docs|tests|notebook|examples|offline_wheels|\.ci)/[\w./*-]*)`")
TABLE = re.compile(r"<!-- table: ([\w.-]+) -->\n(.*?)<!-- /table -->", re.DOTALL)

Records = Mapping[str, Mapping[str, Any]]


def read_records() -> dict[str, dict[str, Any]]:
    """Return the records of docs/figures/ by name, and the means of every ablation as `ablations/PLAN`."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "docs" / "figures").glob("*.json"))}
    for path in sorted((ROOT / "scripts" / "ablations").glob("*.csv")):
        means = pd.read_csv(path).groupby("variant").mean(numeric_only=True)
        found[f"ablations/{path.stem}"] = {"values": means.to_dict(orient="index")}
    return found


def faults_of_records(records: Records) -> Iterator[str]:
    """Name records that do not say what they are of, or that are of other weights than the package's."""
    packaged = {sha256_of(path) for path in (ROOT / "hrm_submit" / "checkpoints").glob("*.safetensors")}
    for name, record in records.items():
        if name.startswith("ablations/"):
            continue
        lacking = [key for key in ("what", "command", "machine", "date") if not record.get("about", {}).get(key)]
        if lacking:
            yield f"{name}.json: about says nothing of {', '.join(lacking)}"
        if "weights" not in record:
            yield f"{name}.json: no weights are named"
        elif not packaged.issuperset(weights_of(record)):
            yield f"{name}.json: of weights that are not in the package"


def weights_of(record: Mapping[str, Any]) -> list[str]:
    """Return the SHA-256 of each checkpoint that a record is of."""
    weights = record.get("weights") or []
    return [weights] if isinstance(weights, str) else weights


def faults_of_page(path: Path, records: Records) -> Iterator[str]:
    """Name what is wrong with a page, with line numbers."""
    text = path.read_text(encoding="utf-8")
    prose = text
    for blanked in (CODE, TABLE):
        prose = blanked.sub(lambda found: re.sub(r"[^\n]", "", found[0]), prose)
    for number, line in enumerate(prose.split("\n"), 1):
        for fault in (*_faults_of_links(path, line), *_faults_of_figures(line, records)):
            yield f"{number}: {fault}"
    for name, shown in TABLE.findall(text):
        if "table" not in records.get(name, {}):
            yield f"1: no table in docs/figures/{name}.json"
        elif shown != rendered(records[name]):
            yield f"1: the table {name} is not the recorded one: docs_check.py --write fills it in"


def _faults_of_links(page: Path, line: str) -> Iterator[str]:
    for target in LINK.findall(line):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if re.match(r"[a-z]+:", target):
            continue
        if not path.exists():
            yield f"a link to {target}, which is not there"
        elif anchor and path.suffix == ".md" and anchor not in headings(path.read_text(encoding="utf-8")):
            yield f"a link to {target}: no such heading"
    for name in NAME.findall(line):
        if not (ROOT / name).exists() and not any(ROOT.glob(name.rstrip("/"))):
            yield f"`{name}` is not there"


def headings(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.+)$", CODE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).strip().replace(" ", "-") for title in titles}


def _faults_of_figures(line: str, records: Records) -> Iterator[str]:
    for quoted, percent, name, path in FIGURE.findall(line):
        try:
            value = float(reduce(lambda found, key: found[key], path.split("/"), records[name]["values"]))
        except (KeyError, TypeError):
            yield f"{quoted}: no {path} in docs/figures/{name}.json"
            continue
        expected = f"{100 * value if percent else value:,.{len(quoted.partition('.')[2])}f}"
        if expected.replace(",", "") != quoted.replace(",", ""):
            yield f"{quoted}{percent} is quoted, {expected}{percent} is recorded: {path} in docs/figures/{name}.json"
    if SHARE.search(line.replace("95 %", "")):  # the level of an interval
        yield f"a share that names no record: {line.strip()}"


def rendered(record: Mapping[str, Any]) -> str:
    """Return the table of a record as a page has it between its marks, and below it what it is of."""
    about, weights = record.get("about", {}), weights_of(record)
    command = about.get("command") or ""
    said = [f"`{command}`" if command.startswith("python") else command, about.get("machine"), about.get("date")]
    said += [f"weights {' '.join(f'`{each[:12]}`' for each in weights)}"] if weights else []
    below = f"*{', '.join(filter(None, said))}*\n\n" if any(said) else ""
    return f"\n{to_markdown(pd.DataFrame(record['table']).fillna(''))}\n\n{below}"


def write_tables(path: Path, records: Records) -> None:
    """Fill in the tables of a page."""

    def filled(found: re.Match[str]) -> str:
        record = records.get(found[1], {})
        return f"<!-- table: {found[1]} -->\n{rendered(record)}<!-- /table -->" if "table" in record else found[0]

    path.write_text(TABLE.sub(filled, path.read_text(encoding="utf-8")), encoding="utf-8")


def check(pages: Sequence[Path], write: bool) -> int:
    """Print one line a fault; 1 where there is any."""
    records = read_records()
    faults = [f"docs/figures/{fault}" for fault in faults_of_records(records)]
    for path in [page.resolve() for page in pages] or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if write:
            write_tables(path, records)
        faults += [f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{fault}" for fault in faults_of_page(path, records)]
    print("\n".join(faults) or "no faults")
    return 1 if faults else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="which pages (default: README.md and all below docs/)")
    parser.add_argument("--write", action="store_true", help="fill in the tables of the records first")
    args = parser.parse_args(argv)
    return exit_status("docs_check", lambda: check(args.pages, args.write), OSError)


if __name__ == "__main__":
    sys.exit(main())
