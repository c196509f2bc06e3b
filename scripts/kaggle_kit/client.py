"""The installed `kaggle` command as a function: its words and exit code, under a time limit, and one line for each way it fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from hrm_submit.core.clock import format_duration
from hrm_submit.core.errors import UserError

QUESTION_SECONDS = 300.0
HTTP_STATUS = re.compile(r"\b([45]\d\d) (?:Client|Server) Error\b")
ADVICE = re.compile(r"^If this is unexpected\b.*", re.MULTILINE | re.DOTALL)
NO_CONNECTION = re.compile(r"\b(?:\w*ConnectionError|\w*Timeout(?:Error)?|MaxRetryError)\b")


class ShipError(UserError):
    """Something wrong on this side: a file, the owner, the credentials. Exit 2."""


class RefusedError(Exception):
    """Kaggle said no, or did not finish in time. Exit 1."""


@dataclass(frozen=True)
class Answer:
    """What one call of the client gave: its exit code, and standard output and error together."""

    code: int
    text: str

    @property
    def status(self) -> int | None:
        """The HTTP status of an error, wherever the client tells it: newer ones add lines of advice."""
        found = HTTP_STATUS.search(self.text)
        return int(found[1]) if found else None

    @property
    def reason(self) -> str:
        """The line that says what went wrong: the one with the HTTP status, else the last one before any advice."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        for line in lines:
            if HTTP_STATUS.search(line):
                return line
        before = [line.strip() for line in ADVICE.sub("", self.text).splitlines() if line.strip()]
        return (before or lines or [f"exit code {self.code}, nothing said"])[-1]

    @property
    def may_pass(self) -> bool:
        """Whether asking again later may help: too many requests, a fault on Kaggle's side, no connection."""
        return self.status == 429 or (self.status or 0) >= 500 or (self.status is None and bool(NO_CONNECTION.search(self.text)))


@dataclass(frozen=True)
class Client:
    """The installed `kaggle` command, run in `folder`."""

    folder: Path

    def call(self, *words: str, limit: float = QUESTION_SECONDS, show: bool = False) -> Answer:
        """Run `kaggle WORDS`, for at most `limit` seconds; `show` passes its words on as they come.

        Raises RefusedError past the limit, and ShipError where the client finds no credentials or Kaggle does not accept them.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "kaggle", "-W", *words],
            cwd=self.folder,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(limit, stop)
        timer.start()
        said = bytearray()
        assert process.stdout is not None
        try:
            # Chunks, not lines: a progress bar is one line that ends when it is too late to be of use.
            while chunk := os.read(process.stdout.fileno(), 65536):
                said += chunk
                if show:
                    sys.stderr.write(chunk.decode(errors="replace"))
                    sys.stderr.flush()
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            process.stdout.close()
        if late.is_set():
            raise RefusedError(f"kaggle {' '.join(words[:2])}: not finished after {format_duration(limit)}")
        answer = Answer(code, said.decode(errors="replace"))
        if code and "Authentication required" in answer.text:
            raise ShipError("Kaggle: no credentials that it accepts; run `kaggle auth login`, or set KAGGLE_API_TOKEN")
        return answer
