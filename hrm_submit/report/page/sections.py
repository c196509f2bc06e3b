"""The sections of the page but the gallery: head, scores, what stands out, time, what decides success, comparison, the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from hrm_submit.core.clock import format_duration
from hrm_submit.core.events import RunEnd, RunStart, WorkerStart
from hrm_submit.report.draw import charts
from hrm_submit.report.page.gallery import state_counts
from hrm_submit.report.page.markup import details, facts, table
from hrm_submit.report.run.compare import Comparison, Pairing
from hrm_submit.report.run.findings import findings, usage
from hrm_submit.report.run.load import RunData
from hrm_submit.report.run.statistics import Group, Scores, accuracy_bands, confidence_groups, pass_at_k, solved_by
from hrm_submit.report.run.tables import Tables
from hrm_submit.report.run.timeline import Timeline
from hrm_submit.report.run.words import count, percent

SUCCESS_BY = (
    ("side", "largest side of any grid", "Grid size"),
    ("colours", "colours in the task", "Number of colours"),
    ("size_change", "output compared with input", "Size change"),
    ("demonstrations", "demonstration pairs", "Demonstrations"),
)
FIGURE_WORDS = {
    "pass@1": "test outputs right at the first attempt",
    "pass@2": "test outputs right at either attempt: Kaggle's score",
    "task_pass@2": "tasks with every output right",
    "mean_task_pass@2": "mean share of a task's outputs",
    "cell_accuracy": "cells right in the first attempt",
}


def head(data: RunData, tables: Tables, timeline: Timeline, scores: Scores | None) -> str:
    """The figure that counts, and what it took."""
    counts = state_counts(tables.tasks)
    if scores is not None:
        best = scores.figures["pass@2"]
        big = f'<p class="big">{percent(best.value)}</p><p class="of">pass@2, 95 % interval {percent(best.low)} to {percent(best.high)}</p>'
    else:
        n = int(tables.tasks["answered"].sum())
        big = f'<p class="big">{n} of {len(tables.tasks)}</p><p class="of">tasks answered by the model; no solutions given</p>'
    judged, versions = len(tables.tasks) - counts["unknown"], _versions(data)
    tiles = [
        ("solved", f"{counts['solved']} of {count(judged, 'task')}" if judged else None),
        ("nearly", str(counts["nearly"]) if judged else None),
        ("time used", "; ".join(_turn_words(data, timeline))),
        ("device", _devices(data)),
        ("preset", _preset(data)),
        ("seed", data.run.get("seed")),
        ("versions", ", ".join(f"{name} {versions[name]}" for name in ("hrm_submit", "torch") if name in versions)),
    ]
    return f'<div class="lead"><div>{big}</div>{facts(tiles)}</div>'


def score_section(scores: Sequence[tuple[str, Scores]]) -> str:
    """Every figure of `score` with its interval, over one or two sets of tasks."""
    if not scores:
        return ""
    parts = ['<section id="score"><h2>Score</h2>']
    for number, (name, found) in enumerate(scores):
        rows = []
        for figure, f in found.figures.items():
            band = f'<i class="band" style="left:{100 * f.low:.2f}%;width:{100 * (f.high - f.low):.2f}%"></i>'
            bar = f'<span class="bar" aria-hidden="true">{band}<i class="value" style="left:{100 * f.value:.2f}%"></i></span>'
            words = f"{escape(figure)}<small>{escape(FIGURE_WORDS.get(figure, ''))}</small>"
            interval = f"{percent(f.low)} to {percent(f.high)}"
            rows.append(
                f'<tr><th scope="row">{words}</th><td class="n">{percent(f.value)}</td><td>{bar}<small>{interval}</small></td></tr>'
            )
        c = found.score["counts"]
        told = (
            f"{c['solved_tasks']} of {count(c['tasks'], 'task')} and {c['solved_outputs@2']} of {count(c['outputs'], 'test output')} solved"
        )
        missing = f"; {count(c['missing'], 'output')} without any answer" if c["missing"] else ""
        shown = f'<p>{told}{missing}.</p><table class="scores"><tbody>{"".join(rows)}</tbody></table>'
        parts.append(details(name, shown) if number else f"<h3>{escape(name)}</h3>{shown}")
    parts.append(
        '<p class="note">Bands are 95 % bootstrap intervals: 10,000 draws of whole tasks with a fixed seed, because the outputs of a task '
        "are solved or missed together. They say how far another draw of tasks might move the figure, not another run.</p></section>"
    )
    return "".join(parts)


def findings_section(tables: Tables, timeline: Timeline) -> str:
    """What stands out."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in findings(tables, timeline))
    return f'<section id="findings"><h2>What stands out</h2><ul class="lines">{lines}</ul></section>' if lines else ""


def time_section(data: RunData, timeline: Timeline) -> str:
    """Where the time went."""
    if not timeline.stretches:
        return '<section id="time"><h2>Where the time went</h2><p>No worker of this run got as far as to be recorded.</p></section>'
    used = usage(timeline)
    rows = [
        (name, format_duration(seconds), percent(seconds / used.total) if used.total else "")
        for name, seconds in (*used.phases.items(), ("idle", used.idle))
    ]
    chart = charts.gantt(timeline)
    phases = table(("phase", "worker time", "share"), rows, label="Worker time by phase")
    items = "".join(f"<li>{escape(words)}</li>" for words in _turn_words(data, timeline))
    turns = f'<ul class="lines">{items}</ul>' if len(data.turns) > 1 else ""
    failed = [t for t in timeline.trainings if t.number > 1 or timeline.failures[t.task]]
    retries = ""
    if failed:
        body = [
            (t.task, t.number, t.worker, format_duration(t.start), format_duration(t.seconds), _planned(t.planned), t.outcome)
            for t in failed
        ]
        names = ("task", "training", "worker", "began at", "took", "planned", "ended")
        retries = details(f"Tasks trained more than once or with failures ({len(failed)} trainings)", table(names, body, label="Failures"))
    return (
        f'<section id="time"><h2>Where the time went</h2>{turns}'
        f'<figure class="wide"><div class="scroll" tabindex="0" role="region" aria-label="Chart of workers over time">{chart}</div>'
        "<figcaption>What each worker did; the thin line under a task is the share of time that was planned for it when it began."
        f"</figcaption></figure>{phases}{retries}</section>"
    )


def success_section(tables: Tables) -> str:
    """What decides success; without solutions only how sure the votes are."""
    judged = bool((tables.tasks["state"] != "unknown").any())
    confidence = confidence_groups(tables.outputs)
    blocks: list[str] = []
    if judged:
        bands = accuracy_bands(tables.tasks)
        blocks.append(_chart("Right cells of a task", charts.band_chart(bands), ("right cells", "tasks"), [(g.name, g.n) for g in bands]))
        shares = pass_at_k(tables.outputs)
        rows = [(k, percent(share)) for k, share in enumerate(shares, 1)]
        blocks.append(_chart("pass@k of the ranked candidates", charts.pass_chart(shares), ("k", "pass@k"), rows))
    if any(g.n for g in confidence):
        title = "Are sure votes right?" if judged else "Votes for the first attempt"
        chart = charts.confidence_chart(confidence, judged=judged)
        blocks.append(_chart(title, chart, ("share of votes", "outputs", "right"), _share_rows(confidence, judged)))
    for column, what, title in SUCCESS_BY if judged else ():
        groups = solved_by(tables.tasks, column)
        if groups:
            chart = charts.share_chart(column.replace("_", "-"), what, groups)
            blocks.append(_chart(title, chart, (what, "tasks", "solved"), _share_rows(groups, True)))
    if not blocks:
        return ""
    title = "What decides success" if judged else "How sure the votes are"
    note = "Bars are solved shares; the number above is how many there are, the line Wilson's 95 % interval." if judged else ""
    told = f'<p class="note">{note}</p>' if note else ""
    return f'<section id="success"><h2>{title}</h2>{told}<div class="charts">{"".join(blocks)}</div></section>'


def compare_section(comparison: Comparison | None) -> str:
    """This run against another."""
    if comparison is None:
        return ""
    parts = [f'<section id="compare"><h2>Compared with {escape(comparison.other)}</h2>']
    for name, pairing in (("Tasks", comparison.tasks), ("Test outputs", comparison.outputs)):
        parts.append(f"<h3>{name}</h3><p>{_verdict(pairing)}</p><dl class='pairing'>")
        for kind, found in (("gained", pairing.gained), ("lost", pairing.lost), ("both", pairing.both), ("neither", pairing.neither)):
            chips = "".join(
                f'<button type="button" class="jump" data-open="{escape(n.rsplit(" test ", 1)[0])}">{escape(n)}</button>' for n in found
            )
            body = chips if len(found) <= 12 else f"<details><summary>{len(found)} of them</summary>{chips}</details>"
            parts.append(f'<div class="{kind}"><dt>{kind} <b>{len(found)}</b></dt><dd>{body or "none"}</dd></div>')
        parts.append("</dl>")
    parts.append(
        '<p class="note">The sign test asks how often a fair coin, tossed once for each gain or loss, would be at least as one-sided. '
        "What both runs solved, or neither, does not count.</p></section>"
    )
    return "".join(parts)


def run_section(data: RunData, timeline: Timeline) -> str:
    """All settings, versions, and what was damaged."""
    run = data.run
    start = next((e for e in data.events if isinstance(e, RunStart)), None)
    told = facts(
        [
            ("run folder", data.directory),
            ("challenges", run.get("challenges")),
            ("checkpoint", run.get("checkpoint") or ("none" if run else None)),
            ("presets", _preset(data)),
            ("seed", run.get("seed")),
            ("budget", format_duration(run["budget"]) if isinstance(run.get("budget"), int | float) else None),
            ("segments a task", run.get("segments")),
            ("devices", _devices(data)),
            ("tasks of the file", start.tasks if start else None),
            *_versions(data).items(),
        ]
    )
    config = details("All hyper-parameters", f"<pre>{escape(json.dumps(run['config'], indent=1))}</pre>") if run.get("config") else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in data.notes)
    damage = f'<h3>Left out or damaged</h3><ul class="lines damage">{notes}</ul>' if notes else ""
    return f'<section id="run"><h2>The run</h2>{told}{config}{damage}</section>'


def _turn_words(data: RunData, timeline: Timeline) -> list[str]:
    words = []
    for number, (turn, seconds, budget) in enumerate(zip(data.turns, timeline.ends, timeline.budgets, strict=True), 1):
        used = f"{format_duration(seconds)} of {format_duration(budget)}" if budget else format_duration(seconds)
        ended = any(isinstance(event, RunEnd) for event in turn)
        words.append(("" if len(data.turns) == 1 else f"turn {number}: ") + used + ("" if ended else ", then cut off"))
    return words


def _devices(data: RunData) -> str:
    devices = data.run.get("devices")
    names = [str(d) for d in devices] if isinstance(devices, list) else []
    runtime = next((e.runtime for e in data.events if isinstance(e, WorkerStart) and e.runtime), {})
    counted = [f"{names.count(d)} x {d}" if names.count(d) > 1 else d for d in dict.fromkeys(names)]
    return ", ".join(filter(None, [*counted, str(runtime.get("dtype") or "")]))


def _versions(data: RunData) -> dict[str, str]:
    versions = data.run.get("versions")
    return {str(name): str(version) for name, version in versions.items()} if isinstance(versions, dict) else {}


def _preset(data: RunData) -> str | None:
    return (str(data.run.get("presets") or "") or "the checkpoint's own") if data.run else None


def _planned(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(seconds)


def _verdict(pairing: Pairing) -> str:
    if not pairing.gained and not pairing.lost:
        return "Both runs solved the same."
    p = pairing.p_value
    words = "can well be chance" if p > 0.05 else "is hardly chance"
    return f"{len(pairing.gained)} gained, {len(pairing.lost)} lost: that {words} (two-sided exact sign test, p = {p:.3g})."


def _share_rows(groups: Sequence[Group], judged: bool) -> list[tuple[object, ...]]:
    return [(g.name, g.n, f"{g.right} ({percent(g.share)})" if judged and g.n else "") for g in groups]


def _chart(title: str, chart: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    numbers = details("Numbers", table(head, rows, label=title))
    return f'<figure class="panel"><figcaption>{escape(title)}</figcaption>{chart}{numbers}</figure>'
