"""Quoted figures: each is the one in a record, and every record is of the weights that the package has.

A record is a JSON file in docs/figures/ with `about` (what, command, machine, date), `weights` (the SHA-256 of the checkpoint,
or null where none of ours was used), `values` (nested objects of numbers; shares from 0 to 1) and perhaps `table` (a list of
rows, each an object of column to text). A page quotes a value as `21.0 %<!-- = evaluation-1 all/pass@2 -->`, and shows a table
between `<!-- table: evaluation-1 -->` and `<!-- /table -->`, which `docs_check.py --write` fills in. What an ablation measured is quoted
as `29.5 %<!-- = ablations/recipe nano/pass@2 -->`.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hrm_submit.core.files import sha256_of
from lab.docs.page import FIGURE, SHARE, TABLE, Page
from lab.docs.still import ROOT
from lab.markdown import to_markdown

FOLDER, ABLATIONS = ROOT / "docs" / "figures", ROOT / "scripts" / "ablations"


def read_records(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Every record by the name of its file."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def read_ablations(folder: Path = ABLATIONS) -> dict[str, dict[str, Any]]:
    """What `ablate.py` measured, as `ablations/PLAN`: of each variant the mean of every column over its seeds."""
    found = {}
    for path in sorted(folder.glob("*.csv")):
        means = pd.read_csv(path).groupby("variant").mean(numeric_only=True)
        found[f"ablations/{path.stem}"] = {"values": means.to_dict(orient="index")}
    return found


def packaged(root: Path = ROOT) -> dict[str, Path]:
    """The checkpoints in the package, by their SHA-256."""
    return {sha256_of(path): path for path in (root / "hrm_submit" / "checkpoints").glob("*.safetensors")}


def faults_of_records(records: Mapping[str, Mapping[str, Any]], shipped: Container[str]) -> Iterator[str]:
    """Records that do not say what they are of, or that are of other weights."""
    for name, record in records.items():
        lacking = [key for key in ("what", "command", "machine", "date") if not record.get("about", {}).get(key)]
        if lacking:
            yield f"{name}.json: about says nothing of {', '.join(lacking)}"
        if "weights" not in record:
            yield f"{name}.json: no weights are named"
        elif record["weights"] is not None and record["weights"] not in shipped:
            yield f"{name}.json: of weights that are not in the package"


def faults_of_figures(page: Page, records: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    """Figures that are not the recorded ones, shares that name no record, tables that are not those of their record."""
    for number, line in page.lines():
        for quoted, percent, name, path in FIGURE.findall(line):
            try:
                value = _value(records[name]["values"], path)
            except (KeyError, TypeError):
                yield number, f"{quoted}: no {path} in docs/figures/{name}.json"
                continue
            decimals = len(quoted.partition(".")[2])
            expected = f"{100 * value if percent else value:,.{decimals}f}"
            if expected.replace(",", "") != quoted.replace(",", ""):
                yield number, f"{quoted}{percent} is quoted, {expected}{percent} is recorded: {path} in docs/figures/{name}.json"
        if SHARE.search(line.replace("95 %", "")):  # that is how sure an interval is
            yield number, f"a share that names no record: {line.strip()}"
    for name, shown in page.tables.items():
        if "table" not in records.get(name, {}):
            yield 1, f"no table in docs/figures/{name}.json"
        elif shown != rendered(records[name]):
            yield 1, f"the table {name} is not the recorded one: docs_check.py --write fills it in"


def _value(values: Any, path: str) -> float:
    for key in path.split("/"):
        values = values[key]
    return float(values)


def rendered(record: Mapping[str, Any]) -> str:
    """The table of a record, as a page has it between its marks, and below it what it is of."""
    about, weights = record.get("about", {}), record.get("weights")
    command = about.get("command") or ""
    said = [f"`{command}`" if command.startswith(("python", "cd ")) else command, about.get("machine"), about.get("date")]
    said += [f"weights `{weights[:12]}`"] if weights else []
    below = f"*{', '.join(filter(None, said))}*\n\n" if any(said) else ""
    return f"\n{to_markdown(pd.DataFrame(record['table']).fillna(''))}\n\n{below}"


def write_tables(path: Path, records: Mapping[str, Mapping[str, Any]]) -> bool:
    """Fill in the tables of a page; whether that changed it."""
    text = path.read_text(encoding="utf-8")

    def filled(found: Any) -> str:
        record = records.get(found[1], {})
        return f"<!-- table: {found[1]} -->\n{rendered(record)}<!-- /table -->" if "table" in record else str(found[0])

    changed = TABLE.sub(filled, text)
    if changed != text:
        path.write_text(changed, encoding="utf-8")
    return changed != text
