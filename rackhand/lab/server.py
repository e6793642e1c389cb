"""Serve the fleet's files (driver packages, wheels, models) over HTTP on the bridge."""

import argparse
import functools
import http.server
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from rackhand.lab.places import Places

CONNECTIONS_AT_ONCE = 64
IDLE_TIMEOUT_S = 15
Request = socket.socket | tuple[bytes, socket.socket]


def ensure(fleet: "Places", address: str) -> None:
    """Start the server unless it runs; it is listening when this returns, and outlives this process."""
    from rackhand.lab import network, shell

    if find(fleet):
        return
    fleet.www.mkdir(parents=True, exist_ok=True)
    with socket.create_server((address, network.HTTP_PORT), backlog=128) as listener:
        argv = [sys.executable, "-P", __file__, f"--fd={listener.fileno()}", _mark(fleet)]
        shell.detach(argv, fleet.root / "server.log", pass_fds=[listener.fileno()])


def find(fleet: "Places") -> list[int]:
    """Return the process that serves this fleet, if any."""
    from rackhand.lab import processes

    return [pid for pid in processes.with_argument(_mark(fleet)) if _mark(fleet) in processes.arguments(pid)]


def serve(descriptor: int, root: Path) -> None:
    """Serve `root` on an already listening socket until killed."""
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(True)
    server = _Server(listener.getsockname(), root)
    server.socket.close()
    server.socket = listener
    server.serve_forever()


class _Handler(http.server.SimpleHTTPRequestHandler):
    timeout = IDLE_TIMEOUT_S
    protocol_version = "HTTP/1.1"


class _Server(http.server.ThreadingHTTPServer):
    """Accept no more connections than it has threads for; the others wait in the kernel's queue."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], root: Path) -> None:
        super().__init__(address, functools.partial(_Handler, directory=str(root)), bind_and_activate=False)
        self.slots = threading.BoundedSemaphore(CONNECTIONS_AT_ONCE)

    @override
    def process_request(self, request: Request, client_address: object) -> None:
        self.slots.acquire()
        super().process_request(request, client_address)

    @override
    def process_request_thread(self, request: Request, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()


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
