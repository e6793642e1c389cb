"""A small fleet behind a router, and clients that ask it from outside."""

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rackhand.lab.host import LabHost
from tests.lab.deploying import Result, World

SOCKET = "/run/haproxy/admin.sock"
ASK = """
import socket, sys
line = socket.socket(socket.AF_UNIX); line.connect(sys.argv[1]); line.sendall(b"show stat\\n")
sys.stdout.write(b"".join(iter(lambda: line.recv(65536), b"")).decode())
"""
KEY = "sk-engines"
PUBLIC = {"serve_host": "0.0.0.0", "serve_api_key_from": "env:LAB_ENGINE_KEY"}
CLIENTS = 6


@dataclass(frozen=True, kw_only=True)
class Routed:
    """Hosts of the test fleet, one of which is the router `front`."""

    world: World
    hosts: Mapping[str, Mapping[str, Any]]

    def deploy(self, *arguments: str, **shared: Any) -> Result:
        return self.world.deploy(self.hosts, *arguments, **{**PUBLIC, **shared})

    def serves(self, **shared: Any) -> Result:
        """Deploy and require that it went well."""
        result = self.deploy(**shared)
        assert result.status == 0, result.printed
        return result

    def host(self, name: str) -> LabHost:
        return self.world.fleet.host(name)

    def does(self, name: str, command: str) -> str:
        """Run a shell command on a host and return what it printed."""
        done = self.host(name).run(["sh", "-c", command])
        return done.stdout + done.stderr

    def states(self) -> dict[str, str]:
        """Return what the router thinks of each server: UP, DRAIN, DOWN."""
        done = self.host("front").run(["python3", "-c", ASK, SOCKET])
        rows = [line.split(",") for line in done.stdout.splitlines() if line.startswith("model_")]
        return {row[1].removeprefix("lab_"): row[17].split()[0] for row in rows if row[1] != "BACKEND"}

    def becomes(self, wanted: Mapping[str, str], within_s: float) -> float:
        """Wait until the router thinks so of these servers; return how many seconds that took."""
        begun = time.monotonic()
        while not wanted.items() <= (seen := self.states()).items():
            assert time.monotonic() - begun < within_s, seen
            time.sleep(0.05)
        return time.monotonic() - begun

    def asks(self, path: str = "/v1/models", body: object = None, key: str = KEY, tls: bool = False) -> tuple[int, str]:
        """Ask the router from outside; return status and body."""
        address = self.host("front").address
        line: http.client.HTTPConnection = http.client.HTTPConnection(address, 8080, timeout=30)
        if tls:
            line = http.client.HTTPSConnection(address, 8080, timeout=30, context=_trusting())
        data = json.dumps(body) if body is not None else None
        with contextlib.closing(line):
            line.request("POST" if data else "GET", path, data, {"Authorization": f"Bearer {key}"} if key else {})
            answer = line.getresponse()
            return answer.status, answer.read().decode()

    def completes(self, stream: bool = False, key: str = KEY) -> bool:
        """Get five tokens, and the end of the stream where it is one."""
        body = {"model": "tiny", "prompt": "hi", "max_tokens": 5, "stream": stream}
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, text = self.asks("/v1/completions", body, key)
            return status == 200 and (not stream or "[DONE]" in text)
        return False

    @contextlib.contextmanager
    def load(self, key: str = KEY) -> Iterator[Callable[[], list[bool]]]:
        """Keep clients asking, half of them for streams; the given function returns how each request ended so far."""
        over, ended = threading.Event(), []

        def client(number: int) -> None:
            while not over.is_set():
                ended.append(self.completes(stream=number % 2 == 0, key=key))

        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(client, number) for number in range(CLIENTS)]
            try:
                yield lambda: ended
            finally:
                over.set()
                for each in clients:
                    each.result(60)


def told(host: LabHost, instance: str) -> tuple[str, float]:
    """Ask a GPU host as a router does; return the answer and how many seconds it took."""
    begun = time.monotonic()
    with socket.create_connection((host.address, 9105), timeout=10) as line:
        line.sendall(f"{instance}\n".encode())
        answer = line.recv(100).decode().strip()
    return answer, time.monotonic() - begun


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
