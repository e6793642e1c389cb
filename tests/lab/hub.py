"""A small model hub on the lab's bridge: one private model, the endpoints that huggingface_hub asks, its refusals."""

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from typing_extensions import override

BIG_BYTES = 10_000  # above this a file is listed with its SHA-256, as the hub does for LFS files


@dataclass(kw_only=True)
class Hub:
    """One model at one commit behind one token; `asked` remembers every request as (method, path, token)."""

    model: Path
    name: str
    commit: str
    token: str
    damaged: str = ""
    url: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def content(self, name: str) -> bytes:
        """Return a file's bytes; of the damaged file, as many but others."""
        raw = (self.model / name).read_bytes()
        return raw[:-1] + bytes([raw[-1] ^ 1]) if name == self.damaged else raw

    def tree(self) -> list[dict[str, Any]]:
        """List the files as the hub does."""
        return [self._entry(path) for path in sorted(self.model.iterdir())]

    def digest(self, name: str) -> str:
        return hashlib.sha256((self.model / name).read_bytes()).hexdigest()

    def _entry(self, path: Path) -> dict[str, Any]:
        size = path.stat().st_size
        entry = {"type": "file", "path": path.name, "size": size, "oid": self.digest(path.name)[:40]}
        large = {"lfs": {"oid": self.digest(path.name), "size": size, "pointerSize": 134}}
        return {**entry, **large} if size > BIG_BYTES else entry


@contextlib.contextmanager
def serve(hub: Hub, address: str) -> Iterator[Hub]:
    """Serve `hub` on a free port of `address` while the body runs."""

    class Handler(_Handler):
        served = hub

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://{address}:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Stay silent; `asked` is the log."""

    def _answer(self, with_body: bool) -> None:
        hub, path = self.served, urlsplit(self.path).path
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        hub.asked.append((self.command, path, token))
        parts = path.strip("/").split("/")
        revision = (parts[5:] if parts[0] == "api" else parts[3:])[0]
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if token != hub.token or name != hub.name:
            return self._refuse(HTTPStatus.UNAUTHORIZED, "RepoNotFound", "Repository not found")
        if revision != hub.commit:
            return self._refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        if parts[0] == "api":
            return self._send(json.dumps(hub.tree()).encode(), "application/json", "", with_body)
        file = "/".join(parts[4:])
        return self._send(hub.content(file), "application/octet-stream", hub.digest(file), with_body)

    def _send(self, body: bytes, kind: str, etag: str, with_body: bool) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", self.served.commit)
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
