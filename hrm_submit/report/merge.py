"""`merge`: answers of several solvers as one submission. Run folders are voted on by their candidates, bare submissions by rank.

A source's weight is what it has to give to a test output: a run folder divides it among its candidates by their weights, a submission
gives two thirds to its first attempt and a third to its second. Equal grids add up. So all first attempts come before all seconds, unless
several sources agree on one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from hrm_submit.arc.reader import read_challenges
from hrm_submit.arc.submission import Attempts, read_submission, to_json
from hrm_submit.arc.task import same_grid
from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.core.files import refuse_overwriting, write_output
from hrm_submit.predict.fallback import BLANK
from hrm_submit.predict.vote import Candidate, pool, two_attempts
from hrm_submit.record.folder import read_run
from hrm_submit.record.predictions import fallback_answers
from hrm_submit.report.options import MergeOptions

log = logging.getLogger(__name__)

FIRST = 2 / 3
"""Part of a submission's weight for its first attempt."""

Votes: TypeAlias = dict[str, dict[int, tuple[Candidate, ...]]]
"""Candidates of one source by task and test output, each output's weights 1 in all."""


def merge(options: MergeOptions) -> str:
    """Write the merged submission, which is complete and valid whatever a source lacks; returns a line for a person.

    Raises DataError, ConfigError or SolveError for what cannot be read or written.
    """
    names = [s.name if Counter(x.name for x in options.sources)[s.name] == 1 else str(s) for s in options.sources]
    if len(set(names)) < len(names):
        raise ConfigError(f"{max(names, key=names.count)}: is given twice")
    weights = options.weights or (1.0,) * len(names)
    if len(weights) != len(names):
        raise ConfigError(f"--weights: {len(weights)} weights for {len(names)} sources")
    refuse_overwriting(options.output, filter(None, [*options.sources, options.challenges]))
    sources = {name: _votes(source) for name, source in zip(names, options.sources, strict=True)}
    fallbacks = _fallbacks(options, sources.values())
    for name, source in sources.items():
        if strangers := [task for task in source if task not in fallbacks]:
            log.warning("%s: answers %d tasks that are not among the challenges, the first is %s", name, len(strangers), strangers[0])
    merged: dict[str, tuple[Attempts, ...]] = {}
    origins = Counter[str]()
    for task, spares in fallbacks.items():
        attempts = []
        for k, spare in enumerate(spares):
            votes = {name: source.get(task, {}).get(k, ()) for name, source in sources.items()}
            scaled = [[replace(c, weight=w * c.weight) for c in votes[name]] for name, w in zip(names, weights, strict=True) if w]
            attempts.append(two_attempts(pool(scaled), spare))
            origins[_origin(attempts[-1], votes)] += 1
        merged[task] = tuple(attempts)
    write_output(options.output, to_json(merged))
    firsts = ", ".join(f"{n} from {origin}" for origin, n in origins.most_common())
    return f"{options.output}: {len(merged)} tasks, {sum(origins.values())} test outputs; first attempts: {firsts}"


def _votes(source: Path) -> Votes:
    """Read the candidates of a run folder or of a submission file. Raises DataError, SolveError."""
    votes: Votes = {}
    if source.is_dir():
        record = read_run(source)
        for fault in record.damaged:
            log.warning("%s: left out: %s", source, fault)
        for p in record.predictions:
            if p.candidates:
                votes.setdefault(p.task, {})[p.output] = _normal(p.candidates)
        if not votes:
            raise DataError(f"{source}: holds no answers")
        return votes
    found, malformed = read_submission(source)
    if malformed:
        log.warning("%s: %d malformed attempts are skipped, the first is %s", source, len(malformed), malformed[0])
    for task, outputs in found.items():
        for k, attempts in enumerate(outputs):
            shares = zip(attempts, (FIRST, 1 - FIRST), strict=True)
            ranked = pool((Candidate(grid, 1, 0.0, share),) for grid, share in shares if grid.size)
            if ranked:
                votes.setdefault(task, {})[k] = _normal(ranked)
    return votes


def _normal(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    total = sum(max(0.0, c.weight) for c in candidates)
    return tuple(replace(c, weight=max(0.0, c.weight) / total if total else 1 / len(candidates)) for c in candidates)


def _fallbacks(options: MergeOptions, sources: Iterable[Votes]) -> Mapping[str, Sequence[Attempts]]:
    """Make two attempts without a solver for every task and output: of the challenges, else of all that any source answers."""
    named = [read_run(source).run.get("challenges") for source in options.sources if source.is_dir() and options.challenges is None]
    challenges = options.challenges or next((Path(n) for n in named if isinstance(n, str) and Path(n).exists()), None)
    if challenges is not None:
        return fallback_answers(*read_challenges(challenges))
    sizes = Counter[str]()
    for votes in sources:
        for task, outputs in votes.items():
            sizes[task] = max(sizes[task], 1 + max(outputs))
    return {task: [(BLANK, BLANK)] * n for task, n in sizes.items()}


def _origin(attempts: Attempts, votes: Mapping[str, Sequence[Candidate]]) -> str:
    """Name the sources whose first candidate is the first attempt."""
    names = [name for name, candidates in votes.items() if candidates and same_grid(candidates[0].grid, attempts[0])]
    if len(names) == len(votes) > 1:
        return "all"
    return " and ".join(names) or ("none as its first" if any(votes.values()) else "no source")
