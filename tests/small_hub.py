"""A hub on loopback with the few answers that a model's spec needs: files, ranges, refusals, large files elsewhere."""

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from typing_extensions import override

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(kw_only=True)
class SmallHub:
    """One repository; `asked` remembers every request as (path, token, range). `away` serves large files elsewhere."""

    name: str = "owner/model"
    files: dict[str, bytes] = field(default_factory=dict)
    token: str = ""
    gated: bool = False
    ranges: bool = True
    broken: int = 0
    away: str = ""
    url: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)


@contextlib.contextmanager
def serve(hub: SmallHub) -> Iterator[SmallHub]:
    """Serve `hub` on a free port of loopback while the body runs."""

    class Handler(_Handler):
        served = hub

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    served: SmallHub

    def do_GET(self) -> None:
        hub = self.served
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        hub.asked.append((self.path, token, self.headers.get("Range", "")))
        owner, name, _, revision, file = self.path.strip("/").split("/", 4)
        if hub.broken:
            return self._answer(HTTPStatus(hub.broken), b"")
        if hub.token and token != hub.token:
            return self._answer(HTTPStatus.UNAUTHORIZED, b"", **{"X-Error-Code": "GatedRepo"} if hub.gated else {})
        if f"{owner}/{name}" != hub.name:
            return self._answer(HTTPStatus.NOT_FOUND, b"", **{"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", COMMIT):
            return self._answer(HTTPStatus.NOT_FOUND, b"", **{"X-Error-Code": "RevisionNotFound"})
        if file not in hub.files:
            return self._answer(HTTPStatus.NOT_FOUND, b"", **{"X-Error-Code": "EntryNotFound"})
        if hub.away and file.endswith(".safetensors"):
            return self._answer(HTTPStatus.FOUND, b"", Location=f"{hub.away}{self.path}")
        return self._file(hub.files[file])

    def _file(self, raw: bytes) -> None:
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if part and self.served.ranges:
            raw = raw[int(part[1]) : int(part[2]) + 1]
            return self._answer(HTTPStatus.PARTIAL_CONTENT, raw)
        return self._answer(HTTPStatus.OK, raw)

    def _answer(self, status: HTTPStatus, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        # A client that has read enough hangs up.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Stay silent; `asked` is the log."""
