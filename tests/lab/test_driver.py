"""The driver on practice hosts: pinned and held, up and down, out of step with its module, never loaded."""

from collections.abc import Iterator

import pytest

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import World
from tests.lab.driver_state import (
    NEW,
    NEWEST,
    OLD,
    behind_our_back,
    boots_of,
    held,
    loaded,
    no_unloading,
    nvml,
    versions,
)
from tests.lab.failing import failed

pytestmark = pytest.mark.lab

HOST = "driver"
ONE = {HOST: {"lab_personality": "1xL4"}}
MEMBERS = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-modprobe", "libcuda1", "libnvidia-ml1")


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("driver"))


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[LabHost]:
    """One host, at first with the old driver; tests take it from one version to the other."""
    result = world.deploy(ONE, driver_version=OLD)
    assert result.status == 0, result.printed
    yield world.fleet.host(HOST)
    world.fleet.remove(HOST)


def test_a_fresh_install_is_pinned_held_and_excluded_from_unattended_upgrades(host: LabHost) -> None:
    assert set(versions(host).values()) == {OLD}
    assert set(MEMBERS) <= versions(host).keys()
    assert held(host) >= versions(host).keys()
    policy = host.run(["apt-cache", "policy", "libcuda1"]).stdout
    assert f"Candidate: {OLD}-1" in policy
    assert NEWEST in policy
    blacklist = host.run(["apt-config", "dump", "Unattended-Upgrade::Package-Blacklist"]).stdout
    for pattern in ("^nvidia-", "^libnvidia-", "^libcuda", "^firmware-nvidia-"):
        assert f'"{pattern}"' in blacklist


def test_apt_get_upgrade_on_the_host_leaves_the_driver_alone(host: LabHost) -> None:
    before = versions(host)
    for command in ("upgrade", "dist-upgrade"):
        done = host.run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", command])
        assert done.returncode == 0, done.stderr
    assert versions(host) == before
    host.run(["apt-mark", "unhold", *before])
    done = host.run(["apt-get", "-y", "--simulate", "dist-upgrade"])
    assert "Inst nvidia" not in done.stdout, "the pin alone must be enough"
    host.run(["apt-mark", "hold", *before])


def test_a_lost_hold_is_put_back_without_a_reboot(world: World, host: LabHost) -> None:
    before = host.boot_id
    host.run(["apt-mark", "unhold", "libcuda1"])
    result = world.deploy(ONE, driver_version=OLD)
    assert result.status == 0, result.printed
    assert result.changed(HOST) == ["Driver | install, pin, hold"]
    assert "libcuda1" in held(host)
    assert host.boot_id == before


def test_without_leave_to_reboot_a_version_that_needs_one_is_not_even_installed(world: World, host: LabHost) -> None:
    with no_unloading(host):
        result = world.deploy(ONE, driver_version=NEW, driver_reboot_allowed=False)
    line = failed(result, HOST, "reboot-needed")
    assert f"{OLD} is loaded, {NEW} is wished" in line
    assert "this kernel lets no module go" in line
    assert set(versions(host).values()) == {OLD}


def test_where_the_kernel_lets_no_module_go_a_version_is_loaded_by_exactly_one_reboot(
    world: World, host: LabHost
) -> None:
    with no_unloading(host), boots_of(host) as boots:
        result = world.deploy(ONE, driver_version=NEW)
    assert result.status == 0, result.printed
    assert len(boots) == 2, "one reboot, seen by its boot id"
    assert set(versions(host).values()) == {NEW}
    assert held(host) >= versions(host).keys()
    assert loaded(host) == NEW
    assert result.host(HOST)["driver"] == NEW
    assert {"Driver | install, pin, hold", "Driver | load"} <= set(result.changed(HOST))


def test_a_changed_version_may_be_an_older_one(world: World, host: LabHost) -> None:
    with boots_of(host) as boots:
        result = world.deploy(ONE, driver_version=OLD)
    assert result.status == 0, result.printed
    assert len(boots) == 1
    assert set(versions(host).values()) == {OLD}
    assert held(host) >= versions(host).keys()
    assert loaded(host) == OLD


def test_a_library_upgraded_behind_our_back_is_cured(world: World, host: LabHost) -> None:
    behind_our_back(host, NEW)
    assert "mismatch" in nvml(host)
    result = world.deploy(ONE, driver_version=NEW)
    assert result.status == 0, result.printed
    assert loaded(host) == NEW
    assert result.changed(HOST)[-1] != "Driver | load", "the server runs again"


def test_a_mismatch_is_named_with_both_versions_where_no_reboot_is_allowed(world: World, host: LabHost) -> None:
    behind_our_back(host, OLD)
    before = host.boot_id
    try:
        with no_unloading(host):
            result = world.deploy(ONE, driver_version=OLD, driver_reboot_allowed=False)
        line = failed(result, HOST, "reboot-needed")
        assert f"{NEW} is loaded and {OLD} is installed" in line
        assert host.boot_id == before
    finally:
        behind_our_back(host, NEW)


def test_an_unmanaged_driver_is_only_verified(world: World, host: LabHost) -> None:
    before = versions(host)
    fine = world.deploy(ONE, driver_version=OLD, driver_manage=False)
    assert fine.status == 0, fine.printed
    assert versions(host) == before
    behind_our_back(host, OLD)
    try:
        line = failed(world.deploy(ONE, driver_manage=False), HOST, "driver-not-ready")
        assert "mismatch" in line
    finally:
        behind_our_back(host, NEW)


def test_a_module_that_never_loads_ends_the_run_after_one_reboot(world: World, host: LabHost) -> None:
    host.write("/etc/rackhand-lab/module-error", "Invalid argument\n")
    try:
        with boots_of(host) as boots:
            result = world.deploy(ONE, driver_version=OLD)
        line = failed(result, HOST, "driver-not-loaded")
        assert f"after a reboot it has module missing instead of {OLD}" in line
        assert len(boots) == 2, "one reboot, and no second one"
    finally:
        host.run(["rm", "/etc/rackhand-lab/module-error"])
    healed = world.deploy(ONE, driver_version=OLD)
    assert healed.status == 0, healed.printed
    assert loaded(host) == OLD
