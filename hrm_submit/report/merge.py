"""`merge`: answers of several solvers as one submission. Run folders are voted on by their candidates, bare submissions by rank.

A source's weight is what it has to give to a test output: a run folder divides it among its candidates by their weights, a submission
gives two thirds to its first attempt and a third to its second. Equal grids add up. So among submissions of equal weight all first attempts
come before all seconds, unless several agree on one; a run whose views are scattered counts less than a submission.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
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
from hrm_submit.report.data import blanks, challenges_of
from hrm_submit.report.options import MergeOptions

log = logging.getLogger(__name__)

FIRST = 2 / 3
"""Part of a submission's weight for its first attempt."""

Votes: TypeAlias = dict[tuple[str, int], Sequence[Candidate]]
"""Candidates of one source by task and test output, each output's weights 1 in all."""


def merge(options: MergeOptions) -> str:
    """Write the merged submission, which is complete and valid whatever a source lacks; returns a line for a person.

    Raises DataError, ConfigError or SolveError for what cannot be read or written.
    """
    given = options.sources
    weights = options.weights or (1.0,) * len(given)
    if len(weights) != len(given):
        raise ConfigError(f"--weights: {len(weights)} weights for {len(given)} sources")
    if twice := [source for source, n in Counter(given).items() if n > 1]:
        raise ConfigError(f"{twice[0]}: is given twice")
    refuse_overwriting(options.output, filter(None, [*given, options.challenges]))
    sources = [_votes(source) for source in given]
    empty = [str(source) for source, votes in zip(given, sources, strict=True) if not votes]
    if len(empty) == len(given):
        raise DataError(f"{', '.join(empty)}: holds no answers")
    for name in empty:
        log.warning("%s: holds no answers", name)
    fallbacks = _fallbacks(options, sources)
    for source, votes in zip(given, sources, strict=True):
        if strangers := list(dict.fromkeys(task for task, _ in votes if task not in fallbacks)):
            log.warning("%s: answers %d tasks that are not among the challenges, the first is %s", source, len(strangers), strangers[0])
    merged, firsts, names = dict[str, list[Attempts]](), Counter[Path](), Counter(source.name for source in given)
    for task, spares in fallbacks.items():
        merged[task] = []
        for k, spare in enumerate(spares):
            found = [votes.get((task, k), ()) for votes in sources]
            scaled = [[replace(c, weight=w * c.weight) for c in candidates] for candidates, w in zip(found, weights, strict=True) if w]
            attempts = two_attempts(pool(scaled), spare)
            merged[task].append(attempts)
            for source, candidates in zip(given, found, strict=True):
                firsts[source] += any(same_grid(c.grid, attempts[0]) for c in candidates[:1])
    write_output(options.output, to_json(merged))
    origins = ", ".join(f"{n} of {source if names[source.name] > 1 else source.name}" for source, n in firsts.most_common())
    return f"{options.output}: {len(merged)} tasks, {sum(map(len, merged.values()))} test outputs; first attempts: {origins}"


def _votes(source: Path) -> Votes:
    """Read the candidates of a run folder or of a submission file. Raises DataError, SolveError."""
    if source.is_dir():
        record = read_run(source)
        for fault in record.damaged:
            log.warning("%s: left out: %s", source, fault)
        return {(p.task, p.output): _normal(p.candidates) for p in record.predictions if p.candidates}
    found, malformed = read_submission(source)
    if malformed:
        log.warning("%s: %d malformed attempts are skipped, the first is %s", source, len(malformed), malformed[0])
    ranked = {
        (task, k): pool([Candidate(grid, 1, 0.0, share)] for grid, share in zip(attempts, (FIRST, 1 - FIRST), strict=True) if grid.size)
        for task, outputs in found.items()
        for k, attempts in enumerate(outputs)
    }
    return {output: _normal(candidates) for output, candidates in ranked.items() if candidates}


def _normal(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    total = sum(max(0.0, c.weight) for c in candidates)
    return [replace(c, weight=max(0.0, c.weight) / total if total else 1 / len(candidates)) for c in candidates]


def _fallbacks(options: MergeOptions, sources: Sequence[Votes]) -> Mapping[str, Sequence[Attempts]]:
    """Make two attempts without a solver for every task and output: of the challenges, else of all that any source answers."""
    named = (challenges_of(read_run(source).run) for source in options.sources if source.is_dir())
    challenges = options.challenges or next(filter(None, named), None)
    if challenges is not None:
        return fallback_answers(*read_challenges(challenges))
    return blanks((output for votes in sources for output in votes), BLANK)
