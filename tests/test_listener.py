"""Routers hear of each instance whether it is ready; nobody can keep them waiting, and what they heard is noted."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rackhand.remote import drain, listener
from tests.desks import DeskAtWork, desk_at_work

SOON_S = 0.5


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeskAtWork]:
    with desk_at_work(tmp_path, monkeypatch) as found:
        found.enable("tiny-0")
        yield found


def test_an_instance_is_ready_until_its_host_says_that_it_drains(desk: DeskAtWork) -> None:
    assert desk.asks(b"tiny-0\n") == b"ready up\n"
    drain.say("tiny-0", drain.DRAIN)
    assert desk.asks(b"tiny-0\n") == b"drain\n"
    drain.say("tiny-0", drain.READY)
    assert desk.asks(b"tiny-0\n") == b"ready up\n"


def test_what_is_not_of_this_host_gets_no_requests_and_leaves_no_trace(desk: DeskAtWork) -> None:
    assert desk.asks(b"other-0\n") == b"drain\n"
    assert list(drain.TOLD.iterdir()) == []


def test_an_instance_that_its_host_has_named_counts_before_it_starts_at_boot(desk: DeskAtWork) -> None:
    drain.say("new-0", drain.READY)
    assert desk.asks(b"new-0\n") == b"ready up\n"


def test_a_state_that_makes_no_sense_does_not_take_an_instance_out_of_service(desk: DeskAtWork) -> None:
    drain.say("tiny-0", "")
    assert desk.asks(b"tiny-0\n") == b"ready up\n"


@pytest.mark.parametrize(
    "question",
    [b"\n", b"../../etc/passwd\n", b"tiny-0/../tiny-0\n", b".hidden\n", b"\0\xff\n", b"x" * 64, b"y" * 5000 + b"\n"],
    ids=["empty", "path", "inner path", "hidden", "binary", "long", "very long"],
)
def test_garbage_gets_no_answer_and_is_not_noted(desk: DeskAtWork, question: bytes) -> None:
    assert desk.asks(question) == b""
    assert list(drain.TOLD.iterdir()) == []
    assert desk.asks(b"tiny-0\n") == b"ready up\n"


def test_who_does_not_finish_its_question_keeps_nobody_waiting_and_is_sent_away(
    desk: DeskAtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PATIENCE_S", 0.2)
    with socket.create_connection(desk.address) as slow:
        slow.sendall(b"tin")
        begun = time.monotonic()
        assert desk.asks(b"tiny-0\n") == b"ready up\n"
        assert time.monotonic() - begun < SOON_S
        slow.settimeout(5)
        assert slow.recv(10) == b""


def test_a_question_may_come_in_pieces(desk: DeskAtWork) -> None:
    with socket.create_connection(desk.address) as pieces:
        pieces.sendall(b"tin")
        time.sleep(0.05)
        pieces.sendall(b"y-0\r\n")
        assert pieces.recv(100) == b"ready up\n"


def test_two_hundred_ask_at_once_and_all_hear_it(desk: DeskAtWork) -> None:
    drain.say("tiny-0", drain.DRAIN)
    barrier = threading.Barrier(200)

    def ask(_: int) -> bytes:
        barrier.wait()
        return desk.asks(b"tiny-0\n")

    with ThreadPoolExecutor(200) as pool:
        assert set(pool.map(ask, range(200))) == {b"drain\n"}


def test_more_visitors_than_there_is_room_for_push_out_the_oldest(
    desk: DeskAtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "VISITORS", 3)
    idle = [socket.create_connection(desk.address) for _ in range(8)]
    assert desk.asks(b"tiny-0\n") == b"ready up\n"
    idle[0].settimeout(5)
    assert idle[0].recv(10) == b""
    for each in idle:
        each.close()


def test_whoever_drains_learns_what_each_router_was_told_last(desk: DeskAtWork) -> None:
    desk.asks(b"tiny-0\n")
    since = time.time()
    drain.say("tiny-0", drain.DRAIN)
    assert not drain.told("tiny-0", since)
    desk.asks(b"tiny-0\n")
    assert [(note.name, note.read_text()) for note in (drain.TOLD / "tiny-0").iterdir()] == [("127.0.0.1", "drain\n")]
    assert drain.told("tiny-0", since)


def test_notes_about_routers_do_not_pile_up(desk: DeskAtWork) -> None:
    for number in range(listener.ROUTERS + 10):
        listener.answer(b"tiny-0", f"10.0.{number // 256}.{number % 256}")
    notes = {note.name for note in (drain.TOLD / "tiny-0").iterdir()}
    assert len(notes) == listener.ROUTERS
    assert f"10.0.0.{listener.ROUTERS + 9}" in notes


def test_an_answer_is_given_also_where_no_note_can_be_written(desk: DeskAtWork) -> None:
    (drain.TOLD / "tiny-0").write_text("a file where the directory should be")
    assert desk.asks(b"tiny-0\n") == b"ready up\n"
