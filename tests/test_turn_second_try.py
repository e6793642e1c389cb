"""What worked must not stay out of service for bad luck on the way back: an engine that dies, a disk that is full."""

import pytest

from rackhand.remote import drain, order, state, turn_files
from tests.turn_host import Killed, TurnHost, host

__all__ = ["host"]


def falls_back(host: TurnHost, deaths: int) -> None:
    """Let a release fail its gate, and let the one before die so many times when it is brought back."""
    for name in ("old", "new"):
        host.has(name, ["GPU-a"])
    host.serves("old")
    before = host.engines["tiny-0"].starts
    host.breaks = {"new": "mute"}

    def die(host: TurnHost) -> None:
        engine = host.engines["tiny-0"]
        # The new release was the first start; each further one is on the way back.
        again = engine.starts - before - 1
        host.breaks = {"new": "mute", **({"old": "dies"} if 1 <= again <= deaths else {})}

    host.on_tick = die
    host.begins("new")
    assert host.works() is None


def test_an_engine_that_dies_once_on_the_way_back_serves_in_the_end(host: TurnHost) -> None:
    falls_back(host, deaths=1)
    assert host.result()["verdict"] == "restored"
    assert host.in_service() == {"tiny-0"}
    assert host.phases().count("restoring") == 1


def test_an_engine_that_dies_again_and_again_is_lost(host: TurnHost) -> None:
    falls_back(host, deaths=9)
    assert host.result()["verdict"] == "lost"
    assert host.result()["code"] == "gate-tokens"
    assert host.in_service() == set()


def test_a_disk_without_any_room_is_waited_for_on_the_way_back(host: TurnHost, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("old", "new"):
        host.has(name, ["GPU-a"])
    host.serves("old")
    host.breaks = {"new": "mute"}
    monkeypatch.setattr(turn_files, "room", lambda _: 0 if host.full else 1 << 30)
    begun = host.now

    def fill(host: TurnHost) -> None:
        host.full = "failed" in host.phases() and host.now < begun + 300

    host.on_tick = fill
    host.begins("new")
    assert host.works() is None
    assert host.now > begun + 300
    assert host.result()["verdict"] == "restored"
    assert (host.link("current"), host.in_service()) == ("old", {"tiny-0"})


def test_an_order_past_its_deadline_gets_the_time_to_go_back_before_its_program_counts_as_hanging(
    host: TurnHost,
) -> None:
    falls_silent(host)
    host.now = host.order()["deadline"] + 10
    seen: list[bool] = []

    def watched(host: TurnHost) -> None:
        seen.append(order.abort(str(host.root), "r1", "interrupted", "its run is gone"))

    host.on_tick = watched
    assert host.works() is None
    assert seen
    assert all(seen)
    assert host.result()["verdict"] == "restored"
    assert not any(each.startswith(f"kill SIGKILL {state.PROGRAM}") for each in host.asked)


def test_an_order_whose_program_was_stopped_is_taken_up_when_its_end_is_asked_for(host: TurnHost) -> None:
    falls_silent(host)
    assert not host.started
    assert order.abort(str(host.root), "r1", "interrupted", "its run is gone")
    assert host.started
    host.on_tick = lambda _: None
    assert host.works() is None
    assert (host.result()["verdict"], host.in_service()) == ("restored", {"tiny-0"})
    assert order.abort(str(host.root), "r1", "interrupted", "there is nothing to do any more")


def test_a_program_that_does_not_start_is_not_said_to_end_its_order(
    host: TurnHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    falls_silent(host)
    monkeypatch.setattr(host, "_start", lambda *_: None)
    assert not order.abort(str(host.root), "r1", "interrupted", "its run is gone")


def falls_silent(host: TurnHost) -> None:
    """Kill the program of an upgrade after it has stopped the engine, and leave it at that."""
    for name in ("old", "new"):
        host.has(name, ["GPU-a"])
    host.serves("old")

    def cut(host: TurnHost) -> None:
        if "start" in host.phases():
            raise Killed("OOM")

    host.on_tick = cut
    host.begins("new")
    assert host.works() is not None


def loses_power(host: TurnHost, phase: str) -> None:
    """Cut the power a moment after an upgrade came to a phase, and start the host again."""
    for name in ("old", "new"):
        host.has(name, ["GPU-a"])
    host.serves("old")
    host.engines["tiny-0"].requests = 2 if phase == "drain" else 0

    def cut(host: TurnHost) -> None:
        if host.phases()[-1:] == [phase]:
            raise Killed("power")

    host.on_tick = cut
    host.begins("new")
    assert host.works() is not None
    host.on_tick = lambda _: None
    host.boots()


def test_an_engine_that_hangs_after_a_boot_in_the_middle_of_a_drain_is_not_said_to_serve(host: TurnHost) -> None:
    loses_power(host, "drain")
    host.breaks = {"old": "hangs"}
    assert host.works() is None
    assert (host.result()["verdict"], host.in_service(), drain.said("tiny-0")) == ("lost", set(), drain.DRAIN)


def test_an_engine_that_a_boot_started_is_let_in_once_it_passed_its_gate(host: TurnHost) -> None:
    loses_power(host, "drain")
    assert host.works() is None
    assert host.result()["verdict"] == "restored"
    assert [each["name"] for each in host.result()["gate"]] == ["tiny-0"]
    assert host.in_service() == {"tiny-0"}


@pytest.mark.parametrize(("confirms", "verdict", "current"), [(False, "restored", "old"), (True, "accepted", "new")])
def test_a_release_that_served_when_the_power_failed_stays_only_if_the_controller_knew(
    host: TurnHost, confirms: bool, verdict: str, current: str
) -> None:
    host.confirms = confirms
    loses_power(host, "accepted")
    assert host.works() is None
    assert (host.result()["verdict"], host.link("current")) == (verdict, current)
    assert host.in_service() == {"tiny-0"}
