"""A file is the old one or the new one, whatever goes wrong in between."""

import os
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.core.files import write_atomic


def test_text_and_bytes_are_written_and_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    write_atomic(path, "grün")
    assert path.read_bytes() == "grün".encode()
    write_atomic(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["f.json"]


def test_only_a_regular_file_is_replaced_and_a_link_to_one_stays(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "f.json")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "f.json").read_text() == "new"
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path / "fifo", tmp_path, "/dev/null"):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            write_atomic(place, "new")
    assert sorted(os.listdir(tmp_path)) == ["f.json", "fifo", "link"]


def test_a_disk_that_refuses_access_rights_is_written_to_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    write_atomic(tmp_path / "f.json", "new")
    assert (tmp_path / "f.json").read_text() == "new" and os.listdir(tmp_path) == ["f.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_step_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "f.json"
    write_atomic(path, "old")

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["f.json"]
