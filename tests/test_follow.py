"""An instance that shares GPUs starts when the one before it answers or does not run, and not before."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from rackhand.remote import follow

UNIT = "vllm@llama-0.service"


@contextlib.contextmanager
def server(status: int) -> Iterator[str]:
    """Answer everything with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}/health"
    finally:
        listening.shutdown()
        listening.server_close()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that says of every unit what the file `state` holds."""
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/state\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(follow, "POLL_S", 0.01)
    (tmp_path / "state").write_text("active\n")
    return tmp_path / "state"


def closed() -> str:
    """Return an address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/health"


def test_an_answer_that_is_no_http_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def babble() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-nobody\r\n")

        threading.Thread(target=babble, daemon=True).start()
        assert not follow._healthy(f"http://127.0.0.1:{other.getsockname()[1]}/health")


def test_it_starts_once_the_one_before_answers(systemd: Path) -> None:
    with server(200) as url:
        assert follow.follow(UNIT, url, 5) == 0


@pytest.mark.parametrize("status", [503, 404])
def test_an_answer_that_is_not_health_is_waited_out(
    systemd: Path, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(status) as url:
        assert follow.follow(UNIT, url, 0.05) == 1
    assert "vllm@llama-0.service is not ready after 0.05 s" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_it_does_not_wait_for_one_that_does_not_run(systemd: Path, state: str) -> None:
    systemd.write_text(f"{state}\n")
    assert follow.follow(UNIT, closed(), 5) == 0


@pytest.mark.parametrize("state", ["activating", "active", "deactivating", ""])
def test_one_that_is_about_to_run_is_waited_for(systemd: Path, state: str) -> None:
    systemd.write_text(f"{state}\n")
    assert follow.follow(UNIT, closed(), 0.05) == 1
