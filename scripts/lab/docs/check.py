"""All checks of all pages, and the lines that they print."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lab.docs.figures import faults_of_figures, faults_of_records, packaged, read_ablations, read_records, write_tables
from lab.docs.page import Page, read_page
from lab.docs.run import faults_of_runs
from lab.docs.still import ROOT, faults_of_links, faults_of_marks, faults_of_options


def pages_of(given: list[Path]) -> list[Path]:
    """The pages to check: those given, else README and everything below docs/."""
    return [path.resolve() for path in given] or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def check(args: argparse.Namespace) -> int:
    """Print one line a fault; 1 where there is any."""
    records, n = read_records(), 0
    for fault in faults_of_records(records, packaged()):
        print(f"docs/figures/{fault}")
        n += 1
    records |= read_ablations()
    for path in pages_of(args.pages):
        if args.write:
            write_tables(path, records)
        began = time.monotonic()
        page = read_page(path)
        for line, fault in [*still_faults(page, records), *([] if args.still else faults_of_runs(page, args.all))]:
            print(f"{_name(path)}:{line}: {fault}", flush=True)
            n += 1
        blocks = sum(block.kind in ("run", "fails", *(["slow"] if args.all else [])) for block in page.blocks)
        if not args.still:
            print(f"{_name(path)}: {blocks} blocks run in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(f"{n} faults" if n else "no faults", file=sys.stderr)
    return 1 if n else 0


def still_faults(page: Page, records: dict[str, dict[str, object]]) -> Iterator[tuple[int, str]]:
    """What is wrong with a page before anything of it is run."""
    yield from faults_of_marks(page)
    yield from faults_of_links(page)
    yield from faults_of_figures(page, records)
    for block in page.blocks:
        if block.language == "sh" and block.kind not in ("run", "fails"):
            yield from faults_of_options(block)


def _name(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
