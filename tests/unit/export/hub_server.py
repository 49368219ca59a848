"""A stand-in for the Hugging Face hub: its endpoints over HTTP on loopback, and the ways in which it fails."""

import hashlib
import json
import re
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "5" * 40
_API = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/revision/(?P<revision>.+)")
_RESOLVE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<commit>[^/]+)/(?P<path>.+)")


@dataclass
class Hub:
    """One repository, `tiny/encoder`, and what to do wrong.

    Attributes:
        files: Content by path; what ends in .safetensors is stored with Git LFS, elsewhere than the rest.
        faults: By path (or `api`), what happens to the next requests: a status to answer, `cut N` (N bytes, then the
            connection is closed), `silent` (nothing more after the headers), `whole` (a range is ignored), `damaged`.
        requests: Every request as (path, Range header or empty).
    """

    files: dict[str, bytes]
    repository: str = "tiny/encoder"
    revisions: tuple[str, ...] = ("main", COMMIT)
    faults: defaultdict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    requests: list[tuple[str, str]] = field(default_factory=list)
    token: str = ""
    url: str = ""

    def fault(self, key: str) -> str:
        """The next fault of a path, or nothing."""
        return self.faults[key].popleft() if self.faults[key] else ""

    def ranges(self, path: str) -> list[str]:
        """The ranges that were asked for of a file's content, in order."""
        where = f"/lfs/{hashlib.sha256(self.files[path]).hexdigest()}" if path.endswith(".safetensors") else path
        return [wanted for requested, wanted in self.requests if requested.endswith(where)]


def git_id(content: bytes) -> str:
    """Object id that Git gives a file."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((path, self.headers.get("Range", "")))
        if match := _API.fullmatch(path):
            self._api(match["repository"], match["revision"])
        elif match := _RESOLVE.fullmatch(path):
            self._resolve(match["path"])
        elif path.startswith("/lfs/"):
            self._content(next(name for name in self.hub.files if path.endswith(self._sha256(name))))
        else:
            self._answer(404)

    def _api(self, repository: str, revision: str) -> None:
        fault = self.hub.fault("api")
        if fault == "gated":
            self._answer(403, {"X-Error-Code": "GatedRepo"})
        elif fault:
            self._answer(int(fault))
        elif repository != self.hub.repository:
            self._answer(401, {"X-Error-Code": "RepoNotFound"})
        elif revision not in self.hub.revisions:
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            body = {"id": repository, "sha": COMMIT, "siblings": [self._sibling(name) for name in self.hub.files]}
            self._answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _sibling(self, name: str) -> dict[str, object]:
        content = self.hub.files[name]
        entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git_id(content)}
        if name.endswith(".safetensors"):
            entry["lfs"] = {"sha256": self._sha256(name), "size": len(content), "pointerSize": 130}
        return entry

    def _sha256(self, name: str) -> str:
        return hashlib.sha256(self.hub.files[name]).hexdigest()

    def _resolve(self, name: str) -> None:
        if name.endswith(".safetensors"):
            self._answer(302, {"Location": f"{self.hub.url}/lfs/{self._sha256(name)}?Signature=secret"})
        else:
            self._content(name)

    def _content(self, name: str) -> None:
        fault, content = self.hub.fault(name), self.hub.files[name]
        if fault == "gated":
            self._answer(403, {"X-Error-Code": "GatedRepo"})
            return
        if fault.isdecimal():
            self._answer(int(fault), {"Retry-After": "0"})
            return
        if fault == "damaged":
            content = content[:-1] + b"?"
        start, status, headers = 0, 200, {}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and fault != "whole":
            start, status = int(wanted[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if fault.startswith("cut"):
            self._answer(status, headers, body[: int(fault.split()[1])], stated=len(body))
            self.close_connection = True
        elif fault == "silent":
            self._answer(status, headers, b"", stated=len(body))
            self.silence.wait(20)
            self.close_connection = True
        else:
            self._answer(status, headers, body)

    silence: threading.Event

    def _answer(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", stated: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if stated is None else stated))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serve a hub until the end of the block."""
    silence = threading.Event()
    handler = type("Handler", (_Handler,), {"hub": hub, "silence": silence})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            silence.set()
            server.shutdown()
            thread.join()
