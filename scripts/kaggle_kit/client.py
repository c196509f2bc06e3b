"""The installed `kaggle` command as a function: its output and exit code, under a time limit, and one line for each way it fails."""

import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrm_submit.core.clock import format_duration
from hrm_submit.core.errors import UserError

from .processes import run_limited

QUESTION_SECONDS = 300.0
HTTP_STATUS = re.compile(r"\b([45]\d\d) (?:Client|Server) Error\b")
ADVICE = re.compile(r"^If this is unexpected\b.*", re.MULTILINE | re.DOTALL)


class ShipError(UserError):
    """Something wrong on this side: a file, the owner, the credentials. Exit 2."""


class RefusedError(Exception):
    """Kaggle refused, or did not finish in time. Exit 1."""


def say(text: str) -> None:
    """Tell a person, on standard error."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Answer:
    """What one call of the client gave: its exit code, and standard output and error together."""

    code: int
    text: str

    @property
    def status(self) -> int | None:
        """The HTTP status of an error."""
        found = HTTP_STATUS.search(self.text)
        return int(found[1]) if found else None

    @property
    def rows(self) -> list[dict[str, Any]] | None:
        """The rows of a table in JSON, after whatever else was said; None where there is none."""
        if "[" not in self.text and "No submissions" in self.text:
            return []
        with suppress(ValueError):
            return [row for row in json.loads(self.text[self.text.index("[") :]) if isinstance(row, dict)]
        return None

    @property
    def reason(self) -> str:
        """The line that says what went wrong: the one with the HTTP status, else the last one before any advice."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        before = [line.strip() for line in ADVICE.sub("", self.text).splitlines() if line.strip()]
        last = (before or lines or [f"exit code {self.code}, nothing said"])[-1]
        return next((line for line in lines if HTTP_STATUS.search(line)), last)


def kaggle(folder: Path, *words: str, limit: float = QUESTION_SECONDS, show: bool = False) -> Answer:
    """Run the installed command `kaggle WORDS` in `folder`, for at most `limit` seconds; `show` prints its output as it comes.

    Raises RefusedError past the limit, and ShipError where the client finds no credentials or Kaggle does not accept them.
    """
    output: list[str] = []

    def receive(text: str) -> None:
        output.append(text)
        if show:
            print(text, end="", file=sys.stderr, flush=True)

    command = [sys.executable, "-m", "kaggle", "-W", *words]
    # In a locale that is not UTF-8 the client fails over the first other character of a log.
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    outcome = run_limited(command, limit, env=environment, cwd=folder, on_text=receive)
    if outcome.status is None:
        raise RefusedError(f"kaggle {' '.join(words[:2])}: not finished after {format_duration(limit)}")
    answer = Answer(outcome.status, "".join(output))
    if answer.code and "Authentication required" in answer.text:
        raise ShipError("Kaggle: no credentials that it accepts; run `kaggle auth login`, or set KAGGLE_API_TOKEN")
    return answer
