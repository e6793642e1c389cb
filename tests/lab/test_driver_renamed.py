"""From 580 to 595 NVIDIA's packages for Ubuntu lose the branch in their names; the driver goes there and back."""

from collections.abc import Iterator
from typing import Any

import pytest

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import World
from tests.lab.driver_state import NEW, NEWEST, held, loaded, versions

pytestmark = pytest.mark.lab

HOST = "renamed"
ONE = {HOST: {"lab_personality": "1xL4"}}
NOWHERE = "http://127.0.0.1:9/nobody-listens"
# Its packages are NVIDIA's for Ubuntu; all others stay Debian's.
JAMMY = 'ID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04 LTS (a practice host)"\n'


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("renamed"))


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[LabHost]:
    """A host that takes itself for Ubuntu 22.04."""
    found = world.fleet.up(HOST, "1xL4")
    found.wait_ssh()
    found.run(["rm", "/etc/os-release"])
    found.write("/etc/os-release", JAMMY)
    yield found
    world.fleet.remove(HOST)


def test_packages_with_other_names_replace_each_other_both_ways(world: World, host: LabHost) -> None:
    ubuntu = {"driver_repository_url": world.shared()["driver_repository_url"].replace("debian12", "ubuntu2204")}
    wishes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"driver_version": NEW, **ubuntu}, NEW),
        ({"driver_version": NEWEST, "driver_branch": "595", **ubuntu}, NEWEST),
        ({"driver_version": NEW, "driver_repository_url": NOWHERE}, NEW),
        ({"driver_version": NEWEST, "driver_branch": "595", "driver_repository_url": NOWHERE}, NEWEST),
    )
    names: dict[str, set[str]] = {}
    for wish, version in wishes:
        result = world.deploy(ONE, **wish)
        assert result.status == 0, result.printed
        found = versions(host)
        assert set(found.values()) == {version}
        assert held(host) == set(found)
        assert loaded(host) == version
        assert host.run(["dpkg", "--audit"]).stdout == ""
        assert names.setdefault(version, set(found)) == set(found)
    assert {"libnvidia-compute-580", "nvidia-dkms-580-open"} <= names[NEW]
    assert {"libnvidia-compute", "nvidia-dkms-open"} <= names[NEWEST]
    assert not any("580" in name for name in names[NEWEST])
