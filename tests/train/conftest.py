"""What the tests of training share."""

import functools

import pytest

from hrm_submit.train import mixture

protected_once = functools.cache(lambda names, test_only, hashes=mixture.protected_hashes: hashes(names, test_only=test_only))
"""Hashing the evaluation sets takes a second: once is enough for all runs in this process."""


@pytest.fixture(autouse=True)
def remember_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return the same hashes for the same names."""
    monkeypatch.setattr(mixture, "protected_hashes", lambda names, *, test_only=(): protected_once(tuple(names), tuple(test_only)))
