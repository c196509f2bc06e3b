"""The allocator keeps what is freed: a second tensor of the same size faults no page in. Each case in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hrm_submit.core.allocator import LARGE_PAGES, large_pages_for_children

ROOT = Path(__file__).resolve().parents[2]
FAULTS = """
import resource, sys
import numpy as np
from hrm_submit.core.allocator import keep_freed_memory

def touch():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(48 * 2**20, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_freed_memory()
touch()
print(touch())
"""


@pytest.mark.skipif("glibc" not in os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else True, reason="not glibc")
def test_what_is_freed_is_used_again() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC", "GLIBC"))}

    def faults(case: str) -> int:
        command = [sys.executable, "-c", FAULTS, case]
        return int(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout)

    # 48 MiB are 12288 pages of 4 KiB, or 24 of 2 MiB
    assert faults("keep") < 10 < faults("plain")


def test_an_environment_that_tunes_the_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    large_pages_for_children()
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=1"
    monkeypatch.delenv("GLIBC_TUNABLES")
    large_pages_for_children()
    assert os.environ["GLIBC_TUNABLES"] == LARGE_PAGES
