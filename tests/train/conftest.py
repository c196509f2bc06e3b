"""What the tests of training share."""

import functools

import pytest

from hrm_submit.train import prepare


@pytest.fixture(scope="session")
def protected_once() -> object:
    """Hashing the evaluation sets takes a second: once is enough for all runs in this process."""
    return functools.cache(lambda names, test_only: _hashes(names, test_only=test_only))


_hashes = prepare.protected_hashes


@pytest.fixture(autouse=True)
def remember_protected(monkeypatch: pytest.MonkeyPatch, protected_once: object) -> None:
    """Of the same names always the same hashes."""
    monkeypatch.setattr(prepare, "protected_hashes", lambda names, *, test_only=(): protected_once(tuple(names), tuple(test_only)))  # type: ignore[operator]
