"""Tell routers whether an instance of this host is ready or drains, and note down what each of them was told.

Runs for ever without privileges, from rackhand-state.socket. A question is the instance's name and a line end, which is
what HAProxy's agent-send sends; the answer is in the words of HAProxy's agent-check.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from rackhand.remote import drain

# The descriptor of the first socket that systemd hands over.
FIRST = 3
LONGEST = 64  # bytes of a question
PATIENCE_S = 2.0
# Visitors at the same time, and routers that are remembered per instance; the oldest makes room.
VISITORS = 256
ROUTERS = 64
NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]*")
ENABLED = Path("/etc/systemd/system/multi-user.target.wants")
WORDS = {drain.READY: b"ready up\n", drain.DRAIN: b"drain\n"}


@dataclass
class Visit:
    """One connection: what was read of its question, and when it is over in any case (time.monotonic)."""

    peer: str
    until: float
    read: bytes = b""


class Desk:
    """Answers questions at one listening socket, all in one thread: no visitor can keep the others waiting."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        self.visits: dict[socket.socket, Visit] = {}
        self.selector = selectors.DefaultSelector()
        listening.setblocking(False)
        self.selector.register(listening, selectors.EVENT_READ)

    def attend(self, wait_s: float | None = None) -> None:
        """Deal with whoever is there; wait at most `wait_s` for somebody to come."""
        soonest = min((visit.until for visit in self.visits.values()), default=None)
        left_s = None if soonest is None else max(0.0, soonest - time.monotonic())
        waits = [each for each in (wait_s, left_s) if each is not None]
        for key, _ in self.selector.select(min(waits) if waits else None):
            if key.fileobj is self.listening:
                self._welcome()
            elif isinstance(key.fileobj, socket.socket):
                self._read(key.fileobj)
        for connection in [each for each, visit in self.visits.items() if visit.until <= time.monotonic()]:
            self._part(connection)

    def _welcome(self) -> None:
        with contextlib.suppress(OSError):
            connection, address = self.listening.accept()
            connection.setblocking(False)
            self.visits[connection] = Visit(peer=_peer(address[0]), until=time.monotonic() + PATIENCE_S)
            self.selector.register(connection, selectors.EVENT_READ)
            if len(self.visits) > VISITORS:
                self._part(next(iter(self.visits)))

    def _read(self, connection: socket.socket) -> None:
        visit = self.visits.get(connection)
        if visit is None:
            return
        try:
            more = connection.recv(LONGEST - len(visit.read))
        except OSError:
            more = b""
        visit.read += more
        line, ends, _ = visit.read.partition(b"\n")
        if ends:
            with contextlib.suppress(OSError):
                connection.send(answer(line.strip(), visit.peer))
        if ends or not more or len(visit.read) >= LONGEST:
            self._part(connection)

    def _part(self, connection: socket.socket) -> None:
        del self.visits[connection]
        self.selector.unregister(connection)
        connection.close()


def answer(question: bytes, peer: str) -> bytes:
    """Return what a router is told of an instance; nothing where the question makes no sense.

    An instance that is none of this host's drains: whatever listens on its port is something else.
    """
    if not NAME.fullmatch(question):
        return b""
    name = question.decode()
    if not _ours(name):
        return WORDS[drain.DRAIN]
    state = drain.DRAIN if drain.said(name) == drain.DRAIN else drain.READY
    with contextlib.suppress(OSError):
        _note(name, peer, state)
    return WORDS[state]


def _ours(name: str) -> bool:
    return (drain.RUN / f"{name}.state").exists() or (ENABLED / f"vllm@{name}.service").is_symlink()


def _note(name: str, peer: str, state: str) -> None:
    """Remember what a router was told last; whoever drains the instance waits until all of them were."""
    folder = drain.TOLD / name
    folder.mkdir(exist_ok=True)
    note = folder / peer
    if not note.exists():
        known = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for oldest in known[: max(0, len(known) - ROUTERS + 1)]:
            oldest.unlink()
    note.write_text(state + "\n")


def _peer(address: str) -> str:
    """Name a router by its address, an IPv4 address always in the same form."""
    return address.removeprefix("::ffff:").replace("/", "_")


def main() -> None:
    """Answer at the socket that systemd handed over until systemd ends this."""
    with socket.socket(fileno=FIRST) as listening:
        desk = Desk(listening)
        while True:
            desk.attend()
