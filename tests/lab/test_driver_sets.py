"""Sets of driver packages on a practice host: stored beforehand, exchanged without a network, kept whole."""

from collections.abc import Iterator

import pytest

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import World
from tests.lab.driver_state import NEW, NEWEST, OLD, held, loaded, versions

pytestmark = pytest.mark.lab

HOST = "sets"
ONE = {HOST: {"lab_personality": "1xL4"}}
STORE = "/opt/rackhand/driver"
NOWHERE = "http://127.0.0.1:9/nobody-listens"
NEWER_BRANCH = {"driver_branch": "595", "driver_version": NEWEST}
# Whatever is newer may come from anywhere.
EAGER = """
Unattended-Upgrade::Origins-Pattern { "origin=*"; };
Unattended-Upgrade::Skip-Updates-On-Metered-Connections "false";
"""


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[LabHost]:
    """One host, at first with the old driver; tests take it from one version to the other."""
    result = world.deploy(ONE, driver_version=OLD)
    assert result.status == 0, result.printed
    yield world.fleet.host(HOST)
    world.fleet.remove(HOST)


def stored(host: LabHost) -> set[str]:
    """Return the driver versions that are stored whole."""
    return {name.partition("-")[0] for name in host.run(["ls", STORE]).stdout.split() if "-" in name}


def stands(host: LabHost, version: str) -> None:
    assert set(versions(host).values()) == {version}
    assert held(host) == set(versions(host))
    assert loaded(host) == version
    assert host.run(["dpkg", "--audit"]).stdout == ""


def test_a_branch_is_followed_and_left_and_both_sets_are_stored(world: World, host: LabHost) -> None:
    assert stored(host) == {OLD}
    for wish, version in (({"driver_version": NEW}, NEW), (NEWER_BRANCH, NEWEST)):
        result = world.deploy(ONE, **wish)
        assert result.status == 0, result.printed
        stands(host, version)
        assert "Driver | packages fetched, transaction simulated" in result.changed(HOST)
        assert result.host(HOST)["warnings"] == []
    assert stored(host) == {OLD, NEW, NEWEST}


def test_what_is_stored_is_put_back_while_the_repository_is_down(world: World, host: LabHost) -> None:
    result = world.deploy(ONE, driver_version=OLD, driver_repository_url=NOWHERE)
    assert result.status == 0, result.printed
    stands(host, OLD)
    assert "Driver | packages fetched, transaction simulated" not in result.changed(HOST)


def test_neither_upgrades_by_hand_nor_unattended_ones_move_the_driver(host: LabHost) -> None:
    noninteractive = ["env", "DEBIAN_FRONTEND=noninteractive"]
    assert host.run([*noninteractive, "apt-get", "update"]).returncode == 0
    installed = host.run(
        [*noninteractive, "apt-get", "install", "-y", "--no-install-recommends", "unattended-upgrades"]
    )
    assert installed.returncode == 0, installed.stderr
    host.write("/etc/apt/apt.conf.d/99eager", EAGER)
    for command in (["apt-get", "-y", "dist-upgrade"], ["unattended-upgrade", "--debug"]):
        done = host.run([*noninteractive, *command])
        assert done.returncode == 0, done.stdout + done.stderr
        stands(host, OLD)
    # Without hold and pin it is the blacklist alone.
    host.run(["apt-mark", "unhold", *versions(host)])
    host.run(["mv", "/etc/apt/preferences.d/rackhand-nvidia", "/root/pin"])
    try:
        done = host.run([*noninteractive, "unattended-upgrade", "--debug"])
        assert done.returncode == 0, done.stdout + done.stderr
        assert set(versions(host).values()) == {OLD}
        assert "nvidia" in done.stdout, "it looked at the driver and left it alone"
    finally:
        host.run(["mv", "/root/pin", "/etc/apt/preferences.d/rackhand-nvidia"])
        host.run(["apt-mark", "hold", *versions(host)])


def test_a_set_of_which_somebody_replaced_a_part_is_made_whole(world: World, host: LabHost) -> None:
    done = host.run(["sh", "-c", f"dpkg --force-all --install {STORE}/{NEWEST}-*/libnvidia-ml1_*.deb"])
    assert done.returncode == 0, done.stderr
    assert len(set(versions(host).values())) == 2
    result = world.deploy(ONE, driver_version=OLD, driver_repository_url=NOWHERE)
    assert result.status == 0, result.printed
    stands(host, OLD)
