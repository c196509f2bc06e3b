"""Answers of several solvers as one submission: run folders are voted on by their candidates, bare submissions by rank.

Each source has as much to give to a test output as its weight says: a run folder divides it among its candidates by theirs, a submission
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

from hrm_submit.arc.challenges import read_challenges
from hrm_submit.arc.submission import Attempts, read_submission, to_json
from hrm_submit.arc.task import Solutions, same_grid
from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.core.files import write_atomic
from hrm_submit.corpora.scoring import score, task_results
from hrm_submit.corpora.sources import answers_of
from hrm_submit.predict.fallback import BLANK
from hrm_submit.predict.vote import Candidate, pool, two_attempts
from hrm_submit.record.folder import read_run
from hrm_submit.record.predictions import fallback_answers
from hrm_submit.report.options import MergeOptions

log = logging.getLogger(__name__)

FIRST = 2 / 3
"""Of a submission's weight, for its first attempt."""

Answers: TypeAlias = dict[str, dict[int, tuple[Candidate, ...]]]
"""Candidates by task and test output, each output's weights 1 in all."""


def merge(options: MergeOptions) -> list[str]:
    """Write the merged submission, which is complete and valid whatever lacks in each source; returns lines for a person.

    Raises DataError, ConfigError or SolveError for what cannot be read or written.
    """
    names = _names(options.sources)
    weights = options.weights or (1.0,) * len(names)
    if len(weights) != len(names):
        raise ConfigError(f"--weights: {len(weights)} weights for {len(names)} sources")
    truth = answers_of(options.solutions) if options.solutions else None
    given = {name: _answers(source) for name, source in zip(names, options.sources, strict=True)}
    fallbacks = _wanted(options, given.values())
    told = Counter[str]()
    merged: dict[str, tuple[Attempts, ...]] = {}
    for task, spare in fallbacks.items():
        attempts = []
        for k, fallback in enumerate(spare):
            votes = {name: answers.get(task, {}).get(k, ()) for name, answers in given.items()}
            scaled = [_scaled(votes[name], weight) for name, weight in zip(names, weights, strict=True) if weight]
            attempts.append(two_attempts(pool(scaled), fallback))
            told[_origin(attempts[-1], votes)] += 1
        merged[task] = tuple(attempts)
    try:
        write_atomic(options.output, to_json(merged))
    except OSError as error:
        raise DataError(f"{options.output}: cannot be written: {error.strerror or error}") from None
    origins = ", ".join(f"{n} from {origin}" for origin, n in told.most_common())
    lines = [f"{options.output}: {len(merged)} tasks, {sum(told.values())} test outputs; first attempts: {origins}"]
    if truth is not None:
        lines += _scores(given, merged, fallbacks, truth)
    return lines


def _names(sources: Sequence[Path]) -> list[str]:
    short = [source.name if Counter(s.name for s in sources)[source.name] == 1 else str(source) for source in sources]
    if len(set(short)) < len(short):
        raise ConfigError(f"{max(short, key=short.count)}: is given twice")
    return short


def _answers(source: Path) -> Answers:
    """The candidates of a run folder or of a submission file. Raises DataError, SolveError."""
    answers: Answers = {}
    if source.is_dir():
        record = read_run(source)
        for fault in record.damaged:
            log.warning("%s: left out: %s", source, fault)
        for p in record.predictions:
            if p.candidates:
                answers.setdefault(p.task, {})[p.output] = _normal(p.candidates)
        if not answers:
            raise DataError(f"{source}: holds no answers")
        return answers
    found, malformed = read_submission(source)
    if malformed:
        log.warning("%s: %d malformed attempts are skipped, the first is %s", source, len(malformed), malformed[0])
    for task, outputs in found.items():
        for k, attempts in enumerate(outputs):
            shares = zip(attempts, (FIRST, 1 - FIRST), strict=True)
            ranked = pool((Candidate(grid, 1, 0.0, share),) for grid, share in shares if grid.size)
            if ranked:
                answers.setdefault(task, {})[k] = _normal(ranked)
    return answers


def _normal(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    total = sum(max(0.0, c.weight) for c in candidates)
    return tuple(replace(c, weight=max(0.0, c.weight) / total if total else 1 / len(candidates)) for c in candidates)


def _scaled(candidates: Sequence[Candidate], weight: float) -> list[Candidate]:
    return [replace(c, weight=weight * c.weight) for c in candidates]


def _wanted(options: MergeOptions, given: Iterable[Answers]) -> dict[str, list[Attempts]]:
    """Every task and output to answer, each with two attempts that need no solver."""
    challenges = options.challenges
    for source in options.sources if challenges is None else ():
        named = read_run(source).run.get("challenges") if source.is_dir() else None
        if isinstance(named, str) and Path(named).exists():
            challenges = Path(named)
            break
    if challenges is not None:
        tasks, broken = read_challenges(challenges)
        return fallback_answers(tasks, broken)
    sizes: dict[str, int] = {}
    for answers in given:
        for task, outputs in answers.items():
            sizes[task] = max(sizes.get(task, 0), 1 + max(outputs))
    return {task: [(BLANK, BLANK)] * n for task, n in sizes.items()}


def _origin(attempts: Attempts, votes: Mapping[str, Sequence[Candidate]]) -> str:
    """Which sources have the first attempt as their own first."""
    names = [name for name, candidates in votes.items() if candidates and same_grid(candidates[0].grid, attempts[0])]
    if len(names) == len(votes) > 1:
        return "all"
    if names:
        return " and ".join(names)
    return "none as its first" if any(votes.values()) else "no source"


def _scores(
    given: Mapping[str, Answers], merged: Mapping[str, tuple[Attempts, ...]], fallbacks: Mapping[str, list[Attempts]], truth: Solutions
) -> list[str]:
    known = {task: outputs for task, outputs in truth.items() if task in merged}
    if not known:
        raise DataError("the solutions are of other tasks")
    alone = {
        name: {
            task: tuple(two_attempts(answers.get(task, {}).get(k, ()), spare) for k, spare in enumerate(fallbacks[task])) for task in known
        }
        for name, answers in given.items()
    }
    solved = {name: {task for task in known if _all_right(found[task], known, task)} for name, found in alone.items()}
    lines = []
    for name, found in alone.items():
        only = solved[name] - set().union(*(others for other, others in solved.items() if other != name))
        result = score(found, known)
        lines.append(f"{name}: pass@1 {result['pass@1']:.1%}, pass@2 {result['pass@2']:.1%}, {len(only)} tasks that no other solves")
    result = score(merged, known)
    lines.append(f"merged: pass@1 {result['pass@1']:.1%}, pass@2 {result['pass@2']:.1%} of {result['counts']['outputs']} test outputs")
    return lines


def _all_right(found: Sequence[Attempts], known: Solutions, task: str) -> bool:
    return all(result.solved for result in task_results(found, known[task]))
