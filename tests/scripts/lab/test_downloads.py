"""The download script against a small server on this machine, with archives and checksums of the test's own."""

import hashlib
import io
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fetch_data import main
from lab.downloads import SOURCES, Source

from hrm_submit.corpora.sources import load_corpus

TASK = b'{"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "output": [[4]]}]}'
FILES = {"Copy/Copy1.json": TASK, "Above/Above1.json": TASK + b"\n"}
REVISION = "0123456789abcdef"


@dataclass
class Server:
    """What the server answers: `files` by path, without the last `cut` bytes, with or without support of ranges."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: int = 0
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def server(monkeypatch):
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : len(content) - state.cut])

        def log_message(self, format, *args):
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        state.address = f"http://127.0.0.1:{http.server_address[1]}"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield state
        http.shutdown()
        thread.join(timeout=10)


def archive(files, links=()):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name in links else 0o100644) << 16
            file.writestr(info, data)
    return content.getvalue()


REPOSITORY = archive({"Concept-main/README.md": b"not a task", **{f"Concept-main/corpus/{name}": data for name, data in FILES.items()}})
# as `sha256sum` would list the files in order of their paths
LISTING = "".join(f"{hashlib.sha256(FILES[name]).hexdigest()}  {name}\n" for name in ("Above/Above1.json", "Copy/Copy1.json"))


def by_content(server):
    digest = hashlib.sha256(LISTING.encode()).hexdigest()
    return Source(f"{server.address}/c.zip", REVISION, inside="corpus", strip=1, largest=10_000, content=digest)


def by_archive(server, content):
    identity = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return Source(f"{server.address}/r.zip", REVISION, inside="re_arc/tasks", strip=0, largest=10_000, archive_id=identity)


def call(arguments, sources, tmp_path, capsys):
    """Exit status, standard output and standard error of one call."""
    status = main([*arguments, "--data-dir", str(tmp_path / "data")], sources)
    out, err = capsys.readouterr()
    return status, out, err


def refused(arguments, sources, tmp_path, capsys):
    """The one line that a call complains with."""
    status, out, err = call(arguments, sources, tmp_path, capsys)
    assert (status, out) == (2, "")
    assert err.endswith("\n") and err.count("\n") == 1 and "Traceback" not in err
    return err


def left(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_it_downloads_verifies_and_unpacks_once(server, tmp_path, capsys):
    server.files["/c.zip"] = REPOSITORY
    sources = {"conceptarc": by_content(server)}
    status, out, _ = call([], sources, tmp_path, capsys)
    assert (status, "2 task files" in out) == (0, True)
    assert left(tmp_path / "data") == ["conceptarc/.fetched.json", "conceptarc/Above/Above1.json", "conceptarc/Copy/Copy1.json"]
    assert (tmp_path / "data/conceptarc/Copy/Copy1.json").read_bytes() == TASK
    assert [task.key for task in load_corpus("conceptarc", tmp_path / "data").tasks] == ["Above1", "Copy1"]
    assert call(["conceptarc"], sources, tmp_path, capsys)[0] == 0
    assert len(server.asked) == 1


@pytest.mark.parametrize("kind", ["content", "archive"])
def test_what_was_changed_or_is_of_another_revision_is_put_right(server, tmp_path, capsys, kind):
    server.files |= {"/c.zip": REPOSITORY, "/r.zip": archive({f"re_arc/tasks/{name}": data for name, data in FILES.items()})}
    source = by_content(server) if kind == "content" else by_archive(server, server.files["/r.zip"])
    assert call(["x"], {"x": source}, tmp_path, capsys)[0] == 0
    file = tmp_path / "data/x/Copy/Copy1.json"
    file.write_text("[]")
    (tmp_path / "data/x/new.json").write_text("[]")
    assert call(["x"], {"x": source}, tmp_path, capsys)[0] == 0
    assert file.read_bytes() == TASK
    assert left(tmp_path / "data") == ["x/.fetched.json", "x/Above/Above1.json", "x/Copy/Copy1.json"]
    assert len(server.asked) == 2
    if kind == "archive":
        assert call(["x"], {"x": replace(source, revision="another")}, tmp_path, capsys)[0] == 0
        assert len(server.asked) == 3


def test_from_takes_an_archive_without_the_network(server, tmp_path, capsys):
    file = tmp_path / "downloaded.zip"
    file.write_bytes(REPOSITORY)
    sources = {"conceptarc": by_content(server), "re-arc": by_archive(server, REPOSITORY)}
    assert call(["--from", str(file)], sources, tmp_path, capsys)[0] == 0
    assert server.asked == [] and file.read_bytes() == REPOSITORY
    assert "--from takes the archive of one NAME" in refused(["conceptarc", "re-arc", "--from", str(file)], sources, tmp_path, capsys)
    assert "nowhere.zip: no such file" in refused(["re-arc", "--from", str(tmp_path / "nowhere.zip")], sources, tmp_path, capsys)


def test_wrong_content_is_refused(server, tmp_path, capsys):
    wrong = archive({"Concept-main/corpus/Copy/Copy1.json": TASK, "Concept-main/corpus/Above/Above1.json": TASK})
    server.files["/c.zip"] = wrong
    line = refused([], {"conceptarc": by_content(server)}, tmp_path, capsys)
    assert f"its 2 task files are not those of revision {REVISION[:12]}" in line
    assert left(tmp_path / "data") == []
    server.files["/r.zip"] = wrong
    line = refused(["re-arc"], {"re-arc": by_archive(server, REPOSITORY)}, tmp_path, capsys)
    assert hashlib.sha1(b"blob %d\0" % len(REPOSITORY) + REPOSITORY).hexdigest() in line
    assert left(tmp_path / "data") == []


def test_a_wrong_archive_leaves_what_was_there(server, tmp_path, capsys):
    server.files["/c.zip"] = REPOSITORY
    source = by_content(server)
    assert call([], {"conceptarc": source}, tmp_path, capsys)[0] == 0
    before = left(tmp_path / "data")
    refused([], {"conceptarc": replace(source, content="0" * 64)}, tmp_path, capsys)
    assert left(tmp_path / "data") == before


def test_a_truncated_download_is_refused_and_goes_on_later(server, tmp_path, capsys):
    server.files["/c.zip"], server.cut = REPOSITORY, 100
    sources = {"conceptarc": by_content(server)}
    arrived = len(REPOSITORY) - 100
    assert f"broke off after {arrived} of {len(REPOSITORY)} bytes" in refused([], sources, tmp_path, capsys)
    assert not (tmp_path / "data/conceptarc").exists()
    server.cut = 0
    assert call([], sources, tmp_path, capsys)[0] == 0
    assert [wanted for _, wanted in server.asked] == [None, f"bytes={arrived}-"]


@pytest.mark.parametrize("partial", [REPOSITORY[:200], REPOSITORY, b"x" * 200, REPOSITORY + b"more"])
@pytest.mark.parametrize("ranges", [True, False])
def test_whatever_an_earlier_download_left(server, tmp_path, capsys, partial, ranges):
    server.files["/c.zip"], server.ranges = REPOSITORY, ranges
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f".conceptarc-{REVISION[:12]}.zip.part").write_bytes(partial)
    sources = {"conceptarc": by_content(server)}
    status = call([], sources, tmp_path, capsys)[0]
    if partial.startswith(b"x") and ranges:
        assert status == 2  # found out only once it is whole; nothing of it stays
        assert left(tmp_path / "data") == []
        status = call([], sources, tmp_path, capsys)[0]
    assert status == 0
    assert left(tmp_path / "data") == ["conceptarc/.fetched.json", "conceptarc/Above/Above1.json", "conceptarc/Copy/Copy1.json"]


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"a/corpus/x.json": TASK, "a/corpus/../../../evil.json": b""}, "'a/corpus/../../../evil.json' would leave the folder"),
        ({"a/corpus/x.json": TASK, "/evil.json": b""}, "'/evil.json' would leave the folder"),
        ({"a/corpus/x.json": TASK, "a/corpus/..\\evil.json": b""}, "would leave the folder"),
        ({"a/corpus/x.json": TASK, "C:/evil.json": b""}, "would leave the folder"),
        ({"a/corpus/x.json": TASK, "a/corpus/link": b"/etc"}, "'a/corpus/link' is a link"),
        ({"a/corpus/x.json": b" " * 10_001}, "holds more than 10000 bytes of tasks"),
        ({"a/corpus/x.json": TASK, "b/corpus/x.json": TASK}, "holds x.json twice"),
        ({"a/other/x.json": TASK}, "has no .json files in corpus"),
    ],
)
def test_archives_that_are_not_to_be_trusted(server, tmp_path, capsys, files, fault):
    file = tmp_path / "bad.zip"
    file.write_bytes(archive(files, links=["a/corpus/link"]))
    assert fault in refused(["--from", str(file)], {"conceptarc": by_content(server)}, tmp_path, capsys)
    assert left(tmp_path) == ["bad.zip"]


def test_damaged_archives(server, tmp_path, capsys):
    file = tmp_path / "bad.zip"
    damaged = bytearray(REPOSITORY)
    damaged[REPOSITORY.index(b"Copy1.json") + 20] ^= 255
    for content in (b"", b"no zip", REPOSITORY[:-40], bytes(damaged)):
        file.write_bytes(content)
        line = refused(["--from", str(file)], {"conceptarc": by_content(server)}, tmp_path, capsys)
        assert f"conceptarc: {file}: not a whole .zip archive" in line


def test_a_folder_that_someone_else_made_is_not_touched(server, tmp_path, capsys):
    server.files["/c.zip"] = REPOSITORY
    mine = tmp_path / "data/conceptarc/mine.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("[]")
    assert "move it away" in refused([], {"conceptarc": by_content(server)}, tmp_path, capsys)
    assert mine.read_text() == "[]" and server.asked == []


def test_servers_that_do_not_answer_and_folders_that_cannot_be_written(server, tmp_path, capsys):
    sources = {"conceptarc": by_content(server)}
    assert f"conceptarc: {server.address}/c.zip: 404" in refused([], sources, tmp_path, capsys)
    closed = {"conceptarc": replace(sources["conceptarc"], url="http://127.0.0.1:1/c.zip")}
    assert "conceptarc: http://127.0.0.1:1/c.zip: " in refused([], closed, tmp_path, capsys)
    (tmp_path / "file").write_text("")
    assert main(["--data-dir", str(tmp_path / "file")], sources) == 2
    assert capsys.readouterr().err == f"fetch_data: {tmp_path / 'file'}: File exists\n"


def test_the_command_itself(tmp_path):
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, str(root / "scripts" / "fetch_data.py"), "arc-3"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (2, f"fetch_data: unknown data 'arc-3'; known: {', '.join(SOURCES)}\n")
    assert left(tmp_path) == []


def test_real_sources_are_pinned():
    for source in SOURCES.values():
        assert source.url.startswith("https://") and len(source.revision) == 40 and source.revision in source.url
    with pytest.raises(ValueError, match="nothing to verify it by"):
        Source("https://x", REVISION, inside="corpus", strip=1, largest=1)
