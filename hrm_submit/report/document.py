"""One HTML file that needs nothing besides itself: a picture of `show` or `runs` as a page of its own.

Notable: a content security policy forbids every request and runs only the one script whose hash it names, so that nothing in a run
folder could do harm even if it got past the escaping.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib import resources

from hrm_submit.report.picture import Picture, printable


def document(picture: Picture) -> bytes:
    """Make the file, in which a click on a head of a table sorts it."""
    script = asset("tables.js")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(script)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(printable(picture.title))}</title><style>{asset('page.css')}</style></head><body><main>"
        f"{picture._repr_html_()}</main><script>{script}</script></body></html>\n"
    ).encode("utf-8", "replace")


def policy(script: str) -> str:
    """Make the policy of a page whose one script is `script`."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def asset(name: str) -> str:
    """Read a file that lies beside this one."""
    return (resources.files("hrm_submit.report") / name).read_text(encoding="utf-8")
