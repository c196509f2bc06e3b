"""The page: one HTML file that needs nothing besides itself.

Notable: a template that escapes whatever it is given, and a content security policy that forbids every request and runs only the one
script whose hash it names, so that nothing in a run folder could do harm even if it got past the escaping.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from importlib import resources

from hrm_submit.report.page import sections
from hrm_submit.report.page.gallery import LARGE, STATES, THUMB, cards
from hrm_submit.report.run.compare import Comparison
from hrm_submit.report.run.findings import findings
from hrm_submit.report.run.load import RunData, fit_of
from hrm_submit.report.run.statistics import Scores
from hrm_submit.report.run.tables import Tables
from hrm_submit.report.run.timeline import Timeline
from hrm_submit.report.run.words import count, known, percent


def page(data: RunData, tables: Tables, timeline: Timeline, scores: list[tuple[str, Scores]], comparison: Comparison | None) -> str:
    """The whole file. `scores`: with the name of the tasks that each is over, the one for the headline first."""
    from jinja2 import Environment, StrictUndefined

    pages = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"count": count, "packed": packed, "percent": percent}
    pages.tests["known"] = known
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return pages.from_string(_asset("page.html.j2")).render(
        title=f"{data.directory.resolve().name}: {count(len(tables.tasks), 'task')}",
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        style=_asset("page.css"),
        script=script,
        scores=scores,
        comparison=comparison,
        findings=findings(tables, timeline, fit_of(data.run)),
        timeline=timeline,
        cards=cards(data, tables, timeline),
        STATES=STATES,
        THUMB=THUMB,
        LARGE=LARGE,
        FIGURES=sections.FIGURES,
        **sections.values(data, tables, timeline),
    )


def packed(markup: str) -> str:
    """Deflated and in base64, for what is shown only when asked for: pictures of grids shrink to a tenth."""
    return base64.b64encode(zlib.compress(markup.encode("utf-8", "replace"), 9)).decode("ascii")


def _asset(name: str) -> str:
    return (resources.files("hrm_submit.report.page") / name).read_text(encoding="utf-8")
