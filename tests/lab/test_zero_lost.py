"""Constant load of OpenAI's own client through upgrades, rollbacks and bad releases: not one request is lost."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from rackhand.lab.fleet import Fleet
from tests.lab.asking import told
from tests.lab.deploying import Result, World
from tests.lab.drains import Passage, moments
from tests.lab.load import Kind, Load
from tests.lab.routed import KEY, PUBLIC, Routed

pytestmark = pytest.mark.lab

OLD, NEW, BAD = "0.31.0", "0.32.0", "0.33.0"
GPUS: Mapping[str, Mapping[str, Any]] = {
    "zero1": {"lab_personality": "1xH100"},
    "zero2": {"lab_personality": "2xRTX4090"},
    "zero3": {"lab_personality": "1xH100"},
}
SERVERS = (("zero1", "tiny-0", 8000), ("zero2", "tiny-0", 8000), ("zero2", "tiny-1", 8001), ("zero3", "tiny-0", 8000))
UP = {f"{host}:{instance}:{port}": "UP" for host, instance, port in SERVERS}
# An engine that is stopped cuts off what still runs after a second: only the drain keeps requests from being lost.
STERN = {"serve_shutdown_timeout_s": 1}
# A token takes so long, in seconds; the long streams are under way for two to four seconds.
TOKEN_S = 0.1
LONG = [Kind(tokens=20 + number, stream=True) for number in range(0, 21, 3)]
SHORT, PLAIN = Kind(tokens=2, stream=True), Kind(tokens=1)
CLIENTS = [[kind] for kind in LONG * 2] + [[PLAIN, PLAIN, SHORT]] * 9
ENOUGH, ENOUGH_EACH, MOST = 5000, 2600, 20_000
# Longest wait after a run for enough requests, in seconds.
AFTER_S = 90
RELOADS = 5
FAULTS = "/etc/rackhand-lab/standin.conf"


@dataclass(frozen=True, kw_only=True)
class Running:
    """What runs on a GPU host: its current release, and the process of each server."""

    release: str
    pids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A run under load: what ran before it, what it said, and what clients and hosts saw of it."""

    before: Mapping[str, Running]
    result: Result
    passage: Passage


class Busy:
    """Three GPU hosts behind a router, at work for clients."""

    def __init__(self, routed: Routed) -> None:
        self.routed = routed

    def deploys(self, version: str, **shared: Any) -> Result:
        return self.routed.deploy(**self.routed.world.engine(version), **STERN, **shared)

    def load(self) -> Load:
        return Load(url=f"http://{self.routed.host('front').address}:8080/v1", key=KEY, clients=CLIENTS, most=MOST)

    def under_load(self, run: Callable[[], Result], enough: int) -> Seen:
        """Do a run while clients ask, until they have asked often enough."""
        since, before = time.time(), self.running()
        with self.load().going() as load:
            load.reaches(100, 10)
            result = run()
            load.reaches(enough, AFTER_S)
        seen = moments([self.routed.host(name) for name in GPUS], since)
        return Seen(before=before, result=result, passage=Passage(asked=load.ended, moments=seen))

    def breaks(self, *faults: str) -> None:
        """Switch on these faults of the engines, beside the time that a token takes."""
        lines = "".join(f"fault {fault}\n" for fault in (f"slow-tokens {TOKEN_S}", *faults))
        for name in GPUS:
            self.routed.host(name).write(FAULTS, lines)

    def running(self) -> dict[str, Running]:
        ask = "readlink /opt/rackhand/current; systemctl show --value -p MainPID 'vllm@*'"
        told = {name: self.routed.does(name, ask).split() for name in GPUS}
        return {name: Running(release=words[0], pids=tuple(words[1:])) for name, words in told.items()}


@pytest.fixture(scope="module")
def busy(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    world = World(fleet=fleet, directory=tmp_path_factory.mktemp("busy"), routers=("front",))
    made = Busy(Routed(world=world, hosts={"front": {"lab_personality": "none"}, **GPUS}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_ENGINE_KEY", KEY)
        made.routed.serves(**world.engine(OLD), **STERN)
        made.breaks()
        yield made
        for name in made.routed.hosts:
            fleet.remove(name)


@pytest.fixture(scope="module")
def upgraded(busy: Busy) -> Seen:
    """Deploy the next vLLM, and another setting of the router, which reloads it."""
    return busy.under_load(lambda: busy.deploys(NEW, router_timeout_s=600), ENOUGH_EACH)


@pytest.fixture(scope="module")
def rolled_back(busy: Busy, upgraded: Seen) -> Seen:
    return busy.under_load(lambda: busy.routed.world.roll_back(busy.routed.hosts, **PUBLIC), ENOUGH_EACH)


@pytest.fixture(scope="module")
def refused(busy: Busy, rolled_back: Seen) -> Seen:
    """Deploy a release that says it is healthy and never completes anything."""
    busy.breaks(f"hangs-at-completion version={BAD}")
    return busy.under_load(lambda: busy.deploys(BAD), 0)


@pytest.fixture(params=("upgraded", "rolled_back"))
def seen(request: pytest.FixtureRequest) -> Seen:
    found: Seen = request.getfixturevalue(request.param)
    return found


def test_every_host_changes_in_its_turn(seen: Seen) -> None:
    assert seen.result.status == 0, seen.result.printed
    hosts = [seen.result.host(name) for name in GPUS]
    assert [host["status"] for host in hosts] == ["healthy"] * 3
    turns = [host["turn"] for host in hosts]
    print(f"out_s and start_s: {[(turn['out_s'], turn['start_s']) for turn in turns]}")
    assert [turn["wave"] for turn in turns] == [1, 2, 3]
    assert [turn["cut_off"] for turn in turns] == [0, 0, 0]
    assert all(turn["out_s"] > turn["start_s"] > 0 for turn in (turns[0], turns[2]))
    assert turns[1]["out_s"] is None


def test_never_more_than_one_server_is_out_of_service(seen: Seen) -> None:
    phases = [each.phase for each in seen.passage.moments if each.phase in ("drain", "serving")]
    assert phases == ["drain", "serving"] * len(SERVERS)


def test_every_drain_begins_in_the_midst_of_streams(seen: Seen) -> None:
    for host, instance, port in SERVERS:
        met = seen.passage.met(host, instance, port)
        took_s = seen.passage.at("drained", host, instance) - seen.passage.at("drain", host, instance)
        print(f"{host} {instance}: {len(met)} streams, drained in {took_s:.1f} s")
        assert met


def test_both_releases_answer_meanwhile(seen: Seen) -> None:
    counts = {version: seen.passage.served_by(version) for version in (OLD, NEW)}
    print(counts)
    assert min(counts.values()) > 100


def test_not_one_request_of_an_upgrade_and_a_rollback_is_lost(upgraded: Seen, rolled_back: Seen) -> None:
    asked = [*upgraded.passage.asked, *rolled_back.passage.asked]
    lost = [*upgraded.passage.lost(), *rolled_back.passage.lost()]
    print(f"{len(asked)} requests, {sum(each.kind.stream for each in asked)} of them streams, {len(lost)} lost")
    assert not lost, "\n".join(lost)
    assert len(asked) >= ENOUGH


def test_a_release_that_never_completes_stops_at_the_canary_and_is_taken_back(refused: Seen) -> None:
    assert refused.result.status == 1
    assert [refused.result.host(name)["status"] for name in GPUS] == ["rolled back", "not run", "not run"]
    assert "zero1 rolled back: release" in refused.result.printed
    assert {each.host for each in refused.passage.moments} == {"zero1"}
    turn = refused.result.host("zero1")["turn"]
    print(f"out_s {turn['out_s']}, back_s {turn['back_s']}")
    assert 0 < turn["back_s"] < turn["out_s"]


def test_nobody_notices_the_bad_release(busy: Busy, refused: Seen) -> None:
    lost = refused.passage.lost()
    print(f"{len(refused.passage.asked)} requests, {len(lost)} lost")
    assert not lost, "\n".join(lost)
    assert refused.passage.served_by(OLD) == len(refused.passage.asked) > 500
    assert refused.passage.met("zero1", "tiny-0", 8000)
    now = busy.running()
    assert now["zero1"].release == refused.before["zero1"].release
    assert {name: now[name] for name in ("zero2", "zero3")} == {
        name: refused.before[name] for name in ("zero2", "zero3")
    }


def test_reloads_of_the_router_are_not_noticed_either(busy: Busy, rolled_back: Seen) -> None:
    with busy.load().going() as load:
        for _ in range(RELOADS):
            time.sleep(1)
            busy.routed.does("front", "systemctl reload haproxy")
    lost = [each.failure for each in load.ended if each.failure]
    print(f"{RELOADS} reloads, {len(load.ended)} requests, {len(lost)} lost")
    assert not lost


def test_everything_serves_in_the_end(busy: Busy, refused: Seen) -> None:
    busy.routed.becomes(UP, 10)
    states = {word for name in GPUS for word in busy.routed.does(name, "cat /run/rackhand/*.state").split()}
    assert states == {"ready"}
    found = told(busy.routed.world)
    assert (found.status, found.found["good"]) == (0, True)
