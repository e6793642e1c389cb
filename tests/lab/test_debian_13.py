"""Debian 13: newer apt, which judges signatures by itself, a newer Python, and a repository without the 580 branch."""

from collections.abc import Iterator

import pytest

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import World
from tests.lab.driver_state import NEWEST, held, loaded, versions

pytestmark = pytest.mark.lab

HOST = "trixie"
ONE = {HOST: {"lab_personality": "1xL4", "lab_suite": "trixie"}}


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield World(fleet=fleet, directory=tmp_path_factory.mktemp("trixie"))
    fleet.remove(HOST)


def test_the_branch_that_debian_13_has_is_installed_pinned_held_loaded_and_serves(world: World) -> None:
    url = world.shared()["driver_repository_url"].replace("debian12", "debian13")
    wished = {"driver_repository_url": url, "engine_python": "3.13"}
    refused = world.deploy(ONE, **wished)
    assert "branch 580 cannot be installed on Debian 13 (possible: 595" in refused.printed
    result = world.deploy(ONE, driver_branch="595", driver_version=NEWEST, **wished)
    assert result.status == 0, result.printed
    host: LabHost = world.fleet.host(HOST)
    assert host.run(["cat", "/etc/debian_version"]).stdout.startswith("13")
    assert set(versions(host).values()) == {NEWEST}
    assert held(host) >= versions(host).keys()
    assert loaded(host) == NEWEST
    # Its systemd would ask of every unit to be read again after a `disable --no-reload`, and `rackhand status` tell it.
    assert host.run(["systemctl", "show", "--property", "NeedDaemonReload", "vllm@tiny-0"]).stdout.strip()[-2:] == "no"
    again = world.deploy(ONE, driver_branch="595", driver_version=NEWEST, **wished)
    assert (again.status, again.changed(HOST)) == (0, [])
