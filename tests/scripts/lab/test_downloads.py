"""The download script against a small server on this machine, with archives and checksums of the test's own."""

import hashlib
import io
import os
import random
import shutil
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fetch_data import main
from lab import generators
from lab.downloads import SOURCES, Source

from hrm_submit.corpora.sources import load_corpus

TASK = b'{"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "output": [[4]]}]}'
FILES = {"Copy/Copy1.json": TASK, "Above/Above1.json": TASK + b"\n"}
REVISION = "0123456789abcdef"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path not in self.server.files:
            return self.send_error(404)
        content = self.server.files[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) - self.server.cut])

    def log_message(self, format, *args):
        return


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Answers with `files` by path, without their last `cut` bytes."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HRM_SUBMIT_DATA", str(tmp_path / "data"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.files, http.cut, http.asked, http.address = {}, 0, [], f"http://127.0.0.1:{http.server_address[1]}"
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield http
        http.shutdown()


def archive(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return content.getvalue()


REPOSITORY = archive({"Concept-main/README.md": b"not a task", **{f"Concept-main/corpus/{name}": data for name, data in FILES.items()}})


def by_content(server, files=FILES):
    # as `sha256sum` would list the files in order of their paths
    listing = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return Source(f"{server.address}/c.zip", REVISION, inside="corpus", largest=10_000, content=digest)


def by_archive(server, content):
    identity = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return Source(f"{server.address}/r.zip", REVISION, inside="re_arc/tasks", largest=10_000, archive_id=identity)


def fetching(sources):
    return lambda arguments: main(arguments, sources)


def left(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_it_downloads_verifies_and_unpacks_once(server, tmp_path, refused, capsys):
    server.files["/c.zip"], server.cut = REPOSITORY, 100
    sources = {"conceptarc": by_content(server)}
    assert "conceptarc: " in refused(fetching(sources), [])
    assert left(tmp_path) == [], "of a download that breaks off nothing is kept"
    server.cut = 0
    assert main([], sources) == 0 and "2 task files" in capsys.readouterr().out
    assert left(tmp_path / "data") == ["conceptarc/.fetched.json", "conceptarc/Above/Above1.json", "conceptarc/Copy/Copy1.json"]
    assert (tmp_path / "data/conceptarc/Copy/Copy1.json").read_bytes() == TASK
    assert [task.key for task in load_corpus(str(tmp_path / "data" / "conceptarc")).tasks] == ["Above1", "Copy1"]
    asked = len(server.asked)
    assert main(["conceptarc"], sources) == 0 and len(server.asked) == asked


@pytest.mark.parametrize("kind", ["content", "archive"])
def test_what_was_changed_or_is_of_another_revision_is_put_right(server, tmp_path, kind):
    server.files |= {"/c.zip": REPOSITORY, "/r.zip": archive({f"re_arc/tasks/{name}": data for name, data in FILES.items()})}
    source = by_content(server) if kind == "content" else by_archive(server, server.files["/r.zip"])
    assert main(["x"], {"x": source}) == 0
    file = tmp_path / "data/x/Copy/Copy1.json"
    file.write_text("[]")
    (tmp_path / "data/x/new.json").write_text("[]")
    assert main(["x"], {"x": source}) == 0
    assert file.read_bytes() == TASK
    assert left(tmp_path / "data") == ["x/.fetched.json", "x/Above/Above1.json", "x/Copy/Copy1.json"]
    assert main(["x"], {"x": replace(source, revision="another")}) == 0
    assert len(server.asked) == 3


def test_generators_draw_their_pairs_under_a_time_limit(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(generators, "LIMIT", 2.0)
    monkeypatch.setattr(generators, "PAIRS", 4)
    pair = 'import random\ndef generate():\n    {}\n    return {{"input": [[random.randint(0, 9)] * {}], "output": [[1]]}}\n'
    programs = {"good": pair.format("pass", 3), "large": pair.format("pass", 31), "endless": pair.format("while True: pass", 3)}
    programs["wrong"] = "def generate():\n    return 1 / 0\n"
    files = {f"tasks/task_{name}.py": text.encode() for name, text in programs.items()} | {"common.py": b""}
    server.files["/g.zip"] = archive({f"Gen-1/{name}": text for name, text in files.items()})
    source = replace(by_content(server, files), url=f"{server.address}/g.zip", inside="Gen-1", generators=True)
    assert main(["gen"], {"gen": source}) == 0
    assert "1 task files" in (said := capsys.readouterr().out) and "gave no pair in time: endless, large, wrong" in said
    assert left(tmp_path / "data") == ["gen/.fetched.json", "gen/good.json"]
    (task,) = load_corpus(str(tmp_path / "data" / "gen")).tasks
    drawn = [random.Random(2025 + k).randint(0, 9) for k in range(4)]
    assert task.generated and [pair.input[0, 0] for pair in task.pairs] == list(dict.fromkeys(drawn))
    assert main(["gen"], {"gen": source}) == 0 and "nothing to do" in capsys.readouterr().out


def test_wrong_content_is_refused_and_what_was_there_stays(server, tmp_path, refused):
    server.files["/c.zip"] = REPOSITORY
    assert main([], {"conceptarc": by_content(server)}) == 0
    before = left(tmp_path / "data")
    line = refused(fetching({"conceptarc": replace(by_content(server), content="0" * 64)}), [])
    assert f"its 2 files are not those of revision {REVISION[:12]}" in line
    server.files["/r.zip"] = archive({"re_arc/tasks/Copy1.json": TASK})
    line = refused(fetching({"re-arc": by_archive(server, REPOSITORY)}), ["re-arc"])
    assert hashlib.sha1(b"blob %d\0" % len(REPOSITORY) + REPOSITORY).hexdigest() in line
    assert left(tmp_path / "data") == before


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"a/corpus/../../../evil.json": TASK}, "has no .json files in corpus"),
        ({"a/corpus/x.json": b" " * 10_001}, "holds more than 10000 bytes of tasks"),
        (None, "not a whole .zip archive"),
    ],
)
def test_archives_that_cannot_be_used(server, tmp_path, refused, files, fault):
    server.files["/c.zip"] = REPOSITORY[:-40] if files is None else archive(files)
    assert fault in refused(fetching({"conceptarc": by_content(server)}), [])
    assert left(tmp_path) == []


def test_servers_that_do_not_answer_and_folders_that_are_not_its_own_or_cannot_be_written(server, tmp_path, refused):
    sources = {"conceptarc": by_content(server)}
    mine = tmp_path / "data" / "conceptarc" / "mine.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("[]")
    assert "move it away" in refused(fetching(sources), []) and mine.read_text() == "[]" and server.asked == []
    shutil.rmtree(mine.parent)
    assert f"conceptarc: {server.address}/c.zip: 404" in refused(fetching(sources), [])
    closed = {"conceptarc": replace(sources["conceptarc"], url="http://127.0.0.1:1/c.zip")}
    assert "conceptarc: http://127.0.0.1:1/c.zip: " in refused(fetching(closed), [])
    (tmp_path / "data").rmdir()
    (tmp_path / "data").write_text("")
    assert refused(fetching(sources), []) == f"fetch_data: {tmp_path / 'data'}: {os.strerror(17)}"
    assert refused(fetching(sources), ["arc-3"]) == "fetch_data: unknown data 'arc-3'; known: conceptarc"


def test_real_sources_are_pinned():
    for source in SOURCES.values():
        assert source.url.startswith("https://") and len(source.revision) == 40 and source.revision in source.url
        assert source.archive_id or source.content
