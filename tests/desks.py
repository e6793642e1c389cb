"""The listener of a GPU host at work on this machine, with files of its own."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rackhand.remote import drain, listener


@dataclass(frozen=True)
class DeskAtWork:
    """A listener that answers at an address."""

    address: tuple[str, int]
    enabled: Path

    def enable(self, instance: str) -> None:
        """Let an instance be one of this host's, as its unit's link in /etc does."""
        (self.enabled / f"vllm@{instance}.service").symlink_to("/dev/null")

    def asks(self, question: bytes) -> bytes:
        """Ask as HAProxy does; return the whole answer."""
        with socket.create_connection(self.address, timeout=10) as line:
            with contextlib.suppress(OSError):
                line.sendall(question)
            parts = []
            with contextlib.suppress(ConnectionResetError):
                while part := line.recv(100):
                    parts.append(part)
        return b"".join(parts)


@contextlib.contextmanager
def desk_at_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeskAtWork]:
    """Let a listener answer until the end of the block."""
    run, enabled = folder / "run", folder / "enabled"
    (run / "told").mkdir(parents=True)
    enabled.mkdir()
    monkeypatch.setattr(drain, "RUN", run)
    monkeypatch.setattr(drain, "TOLD", run / "told")
    monkeypatch.setattr(listener, "ENABLED", enabled)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        desk, over = listener.Desk(listening), threading.Event()

        def work() -> None:
            while not over.is_set():
                desk.attend(0.05)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield DeskAtWork(listening.getsockname(), enabled)
        finally:
            over.set()
            thread.join()
            for connection in list(desk.visits):
                connection.close()
            desk.selector.close()
