"""A driver that fails its turn goes back with its release, by the host alone, from the packages stored there."""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rackhand.errors import RackhandError
from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import World
from tests.lab.driver_state import NEW, NEWEST, boots_of, held, loaded, versions
from tests.lab.serving import FAULTS

pytestmark = pytest.mark.lab

CANARY, OTHER = "canary", "other"
ONE: dict[str, dict[str, Any]] = {CANARY: {"lab_personality": "1xL4"}}
TWO = {name: {"lab_personality": "1xL4"} for name in (CANARY, OTHER)}
# How long the exchange of modules may go on after its controller was killed, in seconds.
SETTLES_S = 5
NOWHERE = "http://127.0.0.1:9/nobody-listens"
NEWER_BRANCH: dict[str, Any] = {"driver_branch": "595", "driver_version": NEWEST}


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("back"))


@pytest.fixture(scope="module")
def canary(world: World) -> Iterator[LabHost]:
    """Two hosts that serve with a driver of 580; on none of them does an engine work with 595."""
    result = world.deploy(TWO, driver_version=NEW)
    assert result.status == 0, result.printed
    for name in TWO:
        world.fleet.host(name).write(FAULTS, f"fault four-tokens driver={NEWEST}\n")
    yield world.fleet.host(CANARY)
    for name in TWO:
        world.fleet.remove(name)


def stands(host: LabHost, version: str) -> None:
    assert set(versions(host).values()) == {version}
    assert held(host) == set(versions(host))
    assert loaded(host) == version
    assert host.run(["dpkg", "--audit"]).stdout == ""


def serves_again(canary: LabHost, report: Mapping[str, Any]) -> None:
    """Check that the host went back by itself, with its driver, and says so."""
    assert report["status"] == "rolled back"
    assert report["turn"]["driver"] == {"left": NEWEST, "to": NEW, "restored": True, "why": ""}
    assert report["driver"] == NEW
    assert [each["gate"] for each in report["instances"]] == ["passed"]
    assert active(canary)
    stands(canary, NEW)


def test_a_driver_that_fails_its_gate_goes_back_on_the_canary_and_nobody_else_is_touched(
    world: World, canary: LabHost
) -> None:
    other = world.fleet.host(OTHER)
    before = other.boot_id, canary.run(["readlink", "/opt/rackhand/current"]).stdout
    with boots_of(canary) as boots:
        result = world.deploy(TWO, rollout_waves=[1], **NEWER_BRANCH)
    assert result.status == 1, result.printed
    print(result.printed)
    assert len(boots) == 1, "modules were exchanged, forth and back"
    serves_again(canary, result.host(CANARY))
    assert f"driver rolled back {NEWEST} → {NEW}" in result.printed
    assert f'"left": "{NEWEST}"' in canary.run(["cat", "/opt/rackhand/ledger.jsonl"]).stdout
    assert (other.boot_id, canary.run(["readlink", "/opt/rackhand/current"]).stdout) == before
    assert result.host(OTHER)["status"] == "not run"
    stands(other, NEW)


def test_a_driver_that_does_not_load_goes_back_without_a_network(world: World, canary: LabHost) -> None:
    canary.write(f"/etc/rackhand-lab/module-error-{NEWEST}", "Invalid argument\n")
    try:
        result = world.deploy(ONE, driver_repository_url=NOWHERE, **NEWER_BRANCH)
    finally:
        canary.run(["rm", f"/etc/rackhand-lab/module-error-{NEWEST}"])
    assert result.problem(CANARY)["code"] == "driver-not-loaded", result.printed
    print(result.printed)
    serves_again(canary, result.host(CANARY))


def test_a_host_that_has_to_reboot_for_its_old_driver_is_waited_for(world: World, canary: LabHost) -> None:
    canary.write(FAULTS, f"fault slow-start 15 driver={NEWEST}\nfault four-tokens driver={NEWEST}\n")
    with ThreadPoolExecutor() as pool, boots_of(canary) as boots:
        run = pool.submit(world.deploy, ONE, **NEWER_BRANCH)
        assert until(lambda: loaded(canary) == NEWEST and active(canary)), "the new release starts"
        pin_module(canary)
        result = run.result()
    print(result.printed)
    serves_again(canary, result.host(CANARY))
    assert result.problem(CANARY)["code"] == "gate-tokens"
    assert len(boots) == 2, "one reboot, of its own"
    assert "reboot" in [event["phase"] for event in result.host(CANARY)["turn"]["events"]]


@contextlib.contextmanager
def deploying(world: World) -> Iterator[None]:
    """Run a deploy of the newer branch while the body runs, and kill it then."""
    world.inventory(ONE, **NEWER_BRANCH)
    run = subprocess.Popen(world.command("-y"), cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        run.kill()
        run.wait()


def dispossess(host: LabHost) -> None:
    """Let the host know that the run which holds its servers is no more: another one has the lease."""
    host.write("/opt/rackhand/lock/lease.json", json.dumps({"run": "another", "expires": time.time() + 3600}))


def test_a_power_cut_in_the_middle_of_dpkg_leads_back(world: World, canary: LabHost) -> None:
    log, begun = canary.rootfs / "var/log/rackhand/driver-install.log", time.time()
    with deploying(world):
        assert until(lambda: log.stat().st_mtime > begun and "Unpacking" in log.read_text()), "dpkg is at work"
        canary.power_cut()
    canary.power_on()
    canary.wait_ssh()
    assert canary.run(["dpkg", "--audit"]).stdout, "packages are half installed"
    dispossess(canary)
    assert until(lambda: serving(canary)), "the host went back"
    stands(canary, NEW)
    canary.run(["rm", "/opt/rackhand/lock/lease.json"])


def test_a_host_whose_controller_is_gone_takes_its_driver_back_alone(world: World, canary: LabHost) -> None:
    with deploying(world):
        assert until(lambda: loaded(canary) == NEWEST), "the deploy has changed the driver"
    time.sleep(SETTLES_S)
    pin_module(canary)
    dispossess(canary)
    with boots_of(canary) as boots:
        assert until(lambda: loaded(canary) == NEW and serving(canary)), "the host went back"
    assert len(boots) == 2, "by one reboot of its own"
    canary.run(["rm", "/opt/rackhand/lock/lease.json"])
    stands(canary, NEW)


def test_rollback_takes_the_driver_along_both_ways_from_what_is_stored(world: World, canary: LabHost) -> None:
    canary.write(FAULTS, "")
    result = world.deploy(ONE, **NEWER_BRANCH)
    assert result.status == 0, result.printed
    stands(canary, NEWEST)
    canary.run(["chmod", "-x", "/usr/lib/apt/methods/http"])
    left = canary.run(["readlink", "/opt/rackhand/current"]).stdout.strip().rpartition("/")[2]
    for version, named in ((NEW, ()), (NEWEST, ("-y", "--data", f"release={left}"))):
        back = world.roll_back(ONE, *named)
        assert back.status == 0, back.printed
        stands(canary, version)
        assert serving(canary)
        assert back.host(CANARY)["driver"] == version


def active(host: LabHost) -> bool:
    return host.run(["systemctl", "is-active", "vllm@tiny-0"]).stdout.strip() == "active"


def pin_module(host: LabHost) -> None:
    """Let the kernel be one that lets no module go, until the next boot."""
    host.run(["rm", "-f", "/sys/module/nvidia/refcnt"])


def serving(host: LabHost) -> bool:
    return host.run(["curl", "-sf", "127.0.0.1:8000/health"]).returncode == 0


def until(holds: Callable[[], bool], limit_s: float = 180) -> bool:
    """Wait for something to hold of a host, also of one that is off for a while because it reboots."""
    deadline = time.monotonic() + limit_s
    while not (seen := holds_while_on(holds)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return seen


def holds_while_on(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except RackhandError as error:
        if error.code != "lab.off":
            raise
        return False
