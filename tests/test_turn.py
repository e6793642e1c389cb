"""A host's turn: it goes over to another release and serves, or serves with what worked before, whatever happens."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rackhand.remote import drain, freed, gate, order, state, turn_files
from rackhand.remote.problem import Problem
from tests.turn_host import TurnHost, host

__all__ = ["host"]
A, B = ["GPU-a"], ["GPU-b"]


def test_an_upgrade_is_accepted_once_the_controller_confirms(host: TurnHost) -> None:
    host.has("old", A)
    host.serves("old")
    host.has("new", A)
    assert host.begins("new")["back"] == "old"
    assert host.works() is None
    result = host.result()
    assert (result["verdict"], result["release"], result["before"]) == ("accepted", "new", "old")
    assert host.phases() == [
        "armed", "drain", "drained", "stop", "stopped", "freed", "switched", "start", "answering", "gated", "serving",
        "accepted", "confirmed", "closed",
    ]  # fmt: skip
    assert host.in_service() == {"tiny-0"}
    assert host.running() == {"tiny-0": "new-tiny-0"}
    assert (host.link("current"), host.link("previous")) == ("new", "old")


def upgraded(host: TurnHost, **order: object) -> dict[str, object]:
    """Go over from one release to another, and return what came of it."""
    host.has("old", A)
    host.serves("old")
    host.has("new", A)
    host.engines["tiny-0"].requests = 2
    host.begins("new", **order)
    assert host.works() is None
    return host.result()


def ends_at(moment_s: float) -> Callable[[TurnHost], None]:
    """Let the requests of all engines end so many seconds from the first tick."""
    ends: list[float] = []

    def tick(host: TurnHost) -> None:
        ends[:] = ends or [host.now + moment_s]
        if host.now >= ends[0]:
            for engine in host.engines.values():
                engine.requests = 0

    return tick


def at(host: TurnHost, phase: str) -> float:
    return next(event["at"] for event in events(host) if event["phase"] == phase)


def events(host: TurnHost) -> list[dict[str, float]]:
    return [json.loads(line) for line in (host.root / "turn/events.jsonl").read_text().splitlines()]


def test_no_engine_is_stopped_before_its_last_request_has_ended(host: TurnHost) -> None:
    host.on_tick = ends_at(7)
    result = upgraded(host)
    assert (result["verdict"], result["cut_off"]) == ("accepted", 0)
    assert at(host, "stop") - at(host, "drain") > 7


@pytest.mark.parametrize(("asks", "waits_s"), [(True, 4), (False, 0)])
def test_every_router_that_asks_has_heard_of_the_drain_before_an_engine_is_stopped(
    host: TurnHost, asks: bool, waits_s: float
) -> None:
    note = host.run / "told" / "tiny-0" / "lb-1"
    note.parent.mkdir(parents=True)
    begun = host.now

    def tick(host: TurnHost) -> None:
        note.write_text(drain.READY if host.now < begun + 4 else drain.DRAIN)
        moment = host.now if asks else begun - 60
        os.utime(note, (moment, moment))

    host.on_tick = tick
    tick(host)
    host.has("old", A)
    host.serves("old")
    host.has("new", A)
    host.begins("new")
    assert host.works() is None
    assert host.result()["verdict"] == "accepted"
    assert waits_s <= at(host, "stop") - begun < waits_s + 2


def test_what_somebody_had_drained_by_hand_is_waited_for_as_well(host: TurnHost) -> None:
    host.on_tick = ends_at(7)
    drain.say("tiny-0", drain.DRAIN)
    assert upgraded(host)["verdict"] == "accepted"
    assert at(host, "stop") - at(host, "drain") > 7


def test_what_somebody_had_drained_by_hand_stays_so_when_nothing_was_stopped(host: TurnHost) -> None:
    host.has("old", A, B)
    host.serves("old")
    host.has("new", A, B)
    for engine in host.engines.values():
        engine.requests = 2
    drain.say("tiny-0", drain.DRAIN)
    host.begins("new", at_once=2)
    assert host.works() is None
    assert (host.result()["verdict"], host.result()["code"]) == ("unchanged", "drain-timeout")
    assert (drain.said("tiny-0"), drain.said("tiny-1")) == (drain.DRAIN, drain.READY)


@pytest.mark.parametrize(
    "page", [(404, "no such page"), (500, "vllm:num_requests_running 0.0"), (200, "no counters here"), (0, "timed out")]
)
def test_an_engine_that_does_not_say_what_it_does_is_not_taken_for_idle(
    host: TurnHost, monkeypatch: pytest.MonkeyPatch, page: tuple[int, str]
) -> None:
    monkeypatch.setattr(
        gate, "get", lambda instance, path, *_, **__: page if path == "/metrics" else host.get(instance, path, 1)
    )
    result = upgraded(host)
    assert (result["verdict"], result["code"]) == ("unchanged", "drain-timeout")
    assert host.in_service() == {"tiny-0"}


def test_a_run_that_lost_its_lease_begins_nothing(host: TurnHost) -> None:
    host.has("old", A)
    host.serves("old")
    host.has("new", A)
    leased(host, {"run": "r2", "owner": "bob", "expires": host.now - 1})
    with pytest.raises(Problem) as caught:
        host.begins("new")
    assert (caught.value.code, "bob" in caught.value.what) == ("lease-lost", True)
    assert (host.order(), host.started) == ({}, False)
    leased(host, {"run": "r1", "expires": host.now + 300})
    host.begins("new")
    assert host.order()["run"] == "r1"


def leased(host: TurnHost, lease: dict[str, object]) -> None:
    (host.root / state.LEASE).parent.mkdir(exist_ok=True)
    (host.root / state.LEASE).write_text(json.dumps(lease))


def test_an_engine_that_is_idle_for_one_look_is_looked_at_again(host: TurnHost) -> None:
    """A request may be between a router and the engine's counters."""
    ends: list[float] = []

    def tick(host: TurnHost) -> None:
        ends[:] = ends or [host.now + 5]
        if host.phases()[-1:] == ["drain"]:
            host.engines["tiny-0"].requests = int(host.now < ends[0])

    host.on_tick = tick
    host.has("old", A)
    host.serves("old")
    host.has("new", A)
    host.begins("new")
    assert host.works() is None
    assert host.result()["verdict"] == "accepted"
    assert at(host, "stop") - at(host, "drain") >= 5


@pytest.mark.parametrize("watched", [True, False])
def test_nothing_is_stopped_after_a_drain_in_which_the_controller_was_not_heard(
    host: TurnHost, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    def hear(base: Path) -> None:
        (base / turn_files.HEARD).touch()
        os.utime(base / turn_files.HEARD, (host.now, host.now))

    monkeypatch.setattr(turn_files, "hear", hear)
    ended = ends_at(60)

    def tick(host: TurnHost) -> None:
        ended(host)
        if watched and host.order():
            order.watch(str(host.root), "r1", 0, 0)

    host.listens, host.on_tick = False, tick
    result = upgraded(host, drain={"timeout_s": 100, "on_timeout": "stop"})
    if watched:
        assert result["verdict"] == "accepted"
        return
    assert (result["verdict"], result["code"]) == ("unchanged", "controller-silent")
    assert (host.running(), host.in_service()) == ({"tiny-0": "old-tiny-0"}, {"tiny-0"})


def held_on_gpu(until: float, host: TurnHost) -> list[dict[str, object]]:
    process = {"pid": 7, "unit": "vllm@tiny-0.service", "mib": 900}
    other = {"pid": 8, "unit": "somebody.service", "mib": 5}
    return [{"uuid": A[0], "processes": [other, process] if host.now < until else [other]}]


@pytest.mark.parametrize(("for_s", "verdict"), [(20, "accepted"), (10_000, "restored")])
def test_nothing_new_is_started_while_the_old_engine_holds_memory_of_a_gpu(
    host: TurnHost, monkeypatch: pytest.MonkeyPatch, for_s: float, verdict: str
) -> None:
    until = host.now + for_s
    monkeypatch.setattr(freed.Exit, "_ask", lambda _: held_on_gpu(until, host))
    result = upgraded(host, drain={"timeout_s": 5, "on_timeout": "proceed"})
    assert result["verdict"] == verdict
    if verdict == "restored":
        assert (result["code"], result["released"]) == ("gpu-memory-held", False)
        assert "900 MiB of GPU-a" in str(result["what"])
        assert "somebody" not in str(result["what"])
        assert host.phases().index("failed") < host.phases().index("start")


def test_an_nvml_that_hangs_does_not_say_that_memory_is_free(host: TurnHost, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        def communicate(self, said: str = "", timeout: float = 0) -> tuple[str, str]:
            if timeout:
                host.now += timeout
                raise subprocess.TimeoutExpired("nvml", timeout)
            return "", ""

        def kill(self) -> None:
            """Be gone."""

    monkeypatch.setattr(freed.Exit, "_prepare", lambda leaving: setattr(leaving, "_asker", Hanging()))
    result = upgraded(host, drain={"timeout_s": 5, "on_timeout": "proceed"})
    assert (result["verdict"], result["code"]) == ("restored", "gpu-memory-held")
    assert "NVML did not say" in str(result["what"])


def test_requests_that_outlast_the_drain_leave_the_host_as_it_is(host: TurnHost) -> None:
    result = upgraded(host)
    assert (result["verdict"], result["code"]) == ("unchanged", "drain-timeout")
    assert result["cut_off"] is None
    assert (host.running(), host.in_service()) == ({"tiny-0": "old-tiny-0"}, {"tiny-0"})


def test_where_that_is_wished_they_are_cut_off_and_counted(host: TurnHost) -> None:
    result = upgraded(host, drain={"timeout_s": 20, "on_timeout": "proceed"})
    assert (result["verdict"], result["cut_off"]) == ("accepted", 2)


@pytest.mark.parametrize(("owner", "back"), [("r1", False), ("r2", True)])
def test_servers_that_are_held_come_back_when_their_run_lost_its_lease(host: TurnHost, owner: str, back: bool) -> None:
    result = held(host, {"run": owner, "expires": host.now + 10_000})
    assert result["code"] == ("controller-silent" if back else "hold-over")


def test_servers_that_are_held_come_back_soon_after_the_lease_of_their_run_ended(host: TurnHost) -> None:
    begun = host.now
    assert held(host, {"run": "r1", "expires": host.now + 100})["code"] == "controller-silent"
    assert host.now - begun < 500
    assert host.in_service() == {"tiny-0"}


def test_a_hold_without_any_lease_has_an_end_of_its_own(host: TurnHost) -> None:
    assert held(host, {})["code"] == "hold-over"
    assert host.in_service() == {"tiny-0"}


def held(host: TurnHost, lease: dict[str, object]) -> dict[str, object]:
    """Hold a host that serves for 900 s, with a lease, and return how that ended."""
    host.has("old", A)
    host.serves("old")
    host.begins("", kind="hold", hold_s=900)
    leased(host, lease)
    assert host.works() is None
    return host.result()


def test_instances_that_share_a_gpu_all_run_in_the_end(host: TurnHost) -> None:
    host.has("old", A)
    host.serves("old")
    host.has("new", A, A, starts_after={"tiny-1": "tiny-0"})
    host.begins("new")
    assert host.works() is None
    assert host.result()["verdict"] == "accepted"
    assert host.in_service() == {"tiny-0", "tiny-1"}
    assert host.phases().count("start") == 2


@pytest.mark.parametrize("fault", ["mute", "hangs"])
def test_an_engine_that_failed_its_gate_is_not_waited_for_and_one_that_served_is_never_killed(
    host: TurnHost, fault: str
) -> None:
    host.breaks = {"new": fault}
    host.has("old", A)
    host.serves("old")
    host.has("new", A)
    host.begins("new")
    assert host.works() is None
    assert host.result()["verdict"] == "restored"
    kill = host.asked.index("kill SIGKILL vllm@tiny-0.service")
    assert [each for each in host.asked[:kill] if each.startswith("stop")] == ["stop vllm@tiny-0.service"] * 2
    assert sum(each.startswith("kill") for each in host.asked) == 1
