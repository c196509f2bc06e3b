"""The page: one HTML file that needs nothing besides itself.

Notable: a content security policy forbids every request, and runs only the one script whose hash it names, so that nothing
in a run folder could do harm even if it got past the escaping.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib import resources

from hrm_submit.report.page import sections
from hrm_submit.report.page.gallery import STATES, Gallery, state_counts
from hrm_submit.report.run.compare import Comparison
from hrm_submit.report.run.load import RunData
from hrm_submit.report.run.statistics import Scores
from hrm_submit.report.run.tables import Tables
from hrm_submit.report.run.timeline import Timeline
from hrm_submit.report.run.words import count

SORTS = (
    ("order", "file order"),
    ("id", "id"),
    ("accuracy", "right cells, most first"),
    ("size", "grid size, smallest first"),
    ("votes", "votes, surest first"),
    ("seconds", "seconds, most first"),
    ("segments", "segments, most first"),
)


def page(data: RunData, tables: Tables, timeline: Timeline, scores: list[tuple[str, Scores]], comparison: Comparison | None) -> str:
    """The whole file. `scores`: with the name of the tasks that each is over, the one for the headline first."""
    title = f"{data.directory.resolve().name}: {count(len(tables.tasks), 'task')}"
    script, style = _asset("page.js"), _asset("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    parts = [
        sections.score_section(scores),
        sections.findings_section(tables, timeline),
        _gallery(data, tables, timeline),
        sections.time_section(data, timeline),
        sections.success_section(tables),
        sections.compare_section(comparison),
        sections.run_section(data, timeline),
    ]
    names = {"score": "Score", "tasks": "Tasks", "time": "Time", "success": "Success", "compare": "Comparison", "run": "Run"}
    body = "".join(parts)
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name in names.items() if f'<section id="{key}"' in body)
    top = sections.head(data, tables, timeline, scores[0][1] if scores else None)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        '<a class="skip" href="#tasks">Skip to the tasks</a>'
        f'<header class="top"><p class="kind">hrm-submit report</p><h1>{escape(title)}</h1>{top}</header>'
        f'<nav aria-label="Sections">{links}</nav><main>{body}</main>{_VIEWER}<script>{script}</script></body></html>\n'
    )


def _gallery(data: RunData, tables: Tables, timeline: Timeline) -> str:
    counts = state_counts(tables.tasks)
    chips = [f'<button type="button" class="chip" data-filter="all" aria-pressed="true">all <b>{len(tables.tasks)}</b></button>']
    for state, words in STATES.items():
        off = "" if counts[state] else " disabled"
        shown = f"{words} <b>{counts[state]}</b>"
        chips.append(f'<button type="button" class="chip {state}" data-filter="{state}" aria-pressed="false"{off}>{shown}</button>')
    options = "".join(f'<option value="{key}">{words}</option>' for key, words in SORTS)
    cards = "".join(Gallery(data, tables, timeline).cards())
    others = len(data.order) - len(data.scope)
    left = f"<p>{count(others, 'other task')} of the file, not among those to solve, got fallback answers.</p>" if others else ""
    return (
        f'<section id="tasks"><h2>Tasks</h2>{left}<div class="tools" role="group" aria-label="Filter and sort">'
        f'<div class="chips" role="group" aria-label="Show">{"".join(chips)}</div>'
        f'<label>Sort by <select id="sort">{options}</select></label>'
        '<label>Find <input id="find" type="search" placeholder="task id" autocomplete="off" spellcheck="false"></label>'
        f'<p id="shown" role="status">{count(len(tables.tasks), "task")} shown</p></div>'
        '<p class="note keys">Open a task for its demonstrations, candidates and training. '
        "Arrow keys move from task to task, Enter opens one, / finds by id. Wrong cells are crossed.</p>"
        '<noscript><p class="note">Without scripts there is no filter, and tasks cannot be opened.</p></noscript>'
        f'<ol class="cards">{cards}</ol></section>'
    )


def _asset(name: str) -> str:
    return (resources.files("hrm_submit.report.page") / name).read_text(encoding="utf-8")


_VIEWER = (
    '<dialog id="viewer" aria-labelledby="viewer-name"><div class="viewer-head">'
    '<h2 id="viewer-name" tabindex="-1"></h2><span class="state" id="viewer-state"></span>'
    '<button type="button" id="previous" aria-label="Previous task">←</button>'
    '<button type="button" id="next" aria-label="Next task">→</button>'
    '<button type="button" id="close">Close</button></div><div id="viewer-body"></div></dialog>'
)
