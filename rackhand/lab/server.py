"""Serve the fleet's files (driver packages, wheels, models) over HTTP on the bridge."""

import argparse
import functools
import http.server
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from rackhand.lab.places import Places

REQUESTS_AT_ONCE = 32
REQUEST_TIMEOUT_S = 60


def ensure(fleet: "Places", address: str) -> None:
    """Start the server unless it runs; it is listening when this returns, and outlives this process."""
    from rackhand.lab import network

    if find(fleet):
        return
    fleet.www.mkdir(parents=True, exist_ok=True)
    listening = socket.create_server((address, network.HTTP_PORT), backlog=128)
    with listening as listener, (fleet.root / "server.log").open("ab") as log:
        running = subprocess.Popen(
            [sys.executable, "-P", __file__, f"--fd={listener.fileno()}", _mark(fleet)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            cwd="/",
        )
    (fleet.root / "server.pid").write_text(f"{running.pid}\n")


def find(fleet: "Places") -> list[int]:
    """Return the process that serves this fleet, if any."""
    from rackhand.lab import processes

    return [pid for pid in processes.with_argument(_mark(fleet)) if _mark(fleet) in processes.arguments(pid)]


def serve(descriptor: int, root: Path) -> None:
    """Serve `root` on an already listening socket until killed."""
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(True)
    handler = functools.partial(_Handler, directory=str(root))
    server = _Server(listener.getsockname(), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.serve_forever()


class _Handler(http.server.SimpleHTTPRequestHandler):
    timeout = REQUEST_TIMEOUT_S
    protocol_version = "HTTP/1.1"


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    slots = threading.BoundedSemaphore(REQUESTS_AT_ONCE)

    @override
    def process_request_thread(self, request: socket.socket | tuple[bytes, socket.socket], client_address: str) -> None:
        with self.slots:
            super().process_request_thread(request, client_address)


def _mark(fleet: "Places") -> str:
    return f"--root={fleet.www}"


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--root", type=Path, required=True)
    options = parser.parse_args()
    serve(options.fd, options.root)


if __name__ == "__main__":
    _main()
