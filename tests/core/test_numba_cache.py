"""Compiled functions go on without their disk cache. Each case runs in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MODULE = """
from hrm_submit.core.numba_cache import kernel

@kernel
def total(values: list) -> int:
    s = 0
    for v in values:
        s += v
    return s

if __name__ == "__main__":
    import numpy as np
    print(total(np.arange(5)), total(np.arange(4.0)))
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "package" / "sums.py"
    path.parent.mkdir()
    path.write_text(MODULE)
    return path


def run(module, **environment):
    """What it prints; a value of None unsets a variable."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    env = {key: value for key, value in env.items() if value is not None}
    done = subprocess.run(
        [sys.executable, str(module)], env=env, capture_output=True, text=True, timeout=120, check=False, cwd=module.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_cache_is_used_where_it_can_be_and_a_damaged_entry_compiled_anew(module, tmp_path):
    cache = tmp_path / "cache"
    assert run(module, NUMBA_CACHE_DIR=str(cache)) == ["10", "6.0"]
    entries = sorted(cache.rglob("*.nbc"))
    assert len(entries) == 2
    before = [entry.stat().st_mtime_ns for entry in entries]
    assert run(module, NUMBA_CACHE_DIR=str(cache)) == ["10", "6.0"]
    assert [entry.stat().st_mtime_ns for entry in entries] == before
    whole = {entry: entry.read_bytes() for kind in ("*.nbi", "*.nbc") for entry in cache.rglob(kind)}
    for kind in ("*.nbi", "*.nbc"):
        for damage in (lambda data: b"", lambda data: b"garbage", lambda data: data[: len(data) // 2]):
            for entry, data in whole.items():
                entry.write_bytes(damage(data) if entry.match(kind) else data)
            assert run(module, NUMBA_CACHE_DIR=str(cache)) == ["10", "6.0"], "what is damaged is compiled anew"


def test_nowhere_to_write_is_no_error(module, tmp_path):
    # a file where each cache folder should be stops even a superuser, whom permissions would not
    (module.parent / "__pycache__").write_text("")
    (tmp_path / "blocked").write_text("")
    places = dict.fromkeys(("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"), str(tmp_path / "blocked"))
    assert run(module, NUMBA_CACHE_DIR=None, **places) == ["10", "6.0"]


def test_a_user_without_a_home_folder_gets_a_cache_below_the_temporary_one_and_no_folder_called_tilde(module, tmp_path):
    (module.parent / "__pycache__").write_text("")  # as in a package that is installed read-only
    entry = "import pwd\ndef getpwuid(uid):\n    raise KeyError(uid)\npwd.getpwuid = getpwuid\n"
    (module.parent / "sitecustomize.py").write_text(entry)  # a user without an entry
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"))
    path = os.pathsep.join(map(str, (module.parent, ROOT)))
    assert run(module, TMPDIR=str(temporary), PYTHONPATH=path, **nowhere) == ["10", "6.0"]
    assert len(list(temporary.rglob("*.nbc"))) == 2 and not list(tmp_path.rglob("~"))
