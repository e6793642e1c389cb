"""Hosts that cannot be reached, or not as they should be: the others go on, and each has a line of its own."""

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import Result, World
from tests.lab.evidence import files, healthy, only_line, touched

pytestmark = pytest.mark.lab

GOOD, DARK, PULLED, SUDO = "accgood", "accdark", "accpulled", "accsudo"
H100 = {"lab_personality": "1xH100", "gpu_count": 1}
FLEET: Mapping[str, Mapping[str, Any]] = {GOOD: H100, DARK: H100, PULLED: H100, SUDO: {**H100, "ssh_user": "deployer"}}
PASSWORD, NO_PASSWORD = "deployer ALL=(ALL) ALL\n", "deployer ALL=(ALL) NOPASSWD: ALL\n"
OPERATOR = """set -e
useradd --create-home --shell /bin/bash deployer
echo deployer:practice | chpasswd
install -d -m 700 -o deployer /home/deployer/.ssh
install -m 600 -o deployer /root/.ssh/authorized_keys /home/deployer/.ssh/
sed -i 's/^root:[^:]*:/root:!:/' /etc/shadow
mv /root/.ssh/authorized_keys /root/.ssh/moved
"""
NONSENSE = """#!/bin/sh
cat >/dev/null
echo '{"result": {"host": {"hostname": 5}, "resources": []}}'
"""
REMEDIES = {
    DARK: ("python3 is not installed", "[no-python]", "apt-get install python3"),
    PULLED: ("the host's facts make no sense: host.hostname", "[facts]", "--debug"),
    SUDO: ("sudo asks deployer for a password", "[sudo-password]", "NOPASSWD"),
}
PULL_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("access"))


@pytest.fixture(scope="module")
def hosts(world: World) -> Iterator[Mapping[str, LabHost]]:
    """Boot four hosts; one of them lets in no root, but a deployer with sudo."""
    booted = {name: world.fleet.up(name, "1xH100") for name in FLEET}
    for host in booted.values():
        host.wait_ssh()
        host.run(["systemctl", "is-system-running", "--wait"])
    made = booted[SUDO].run(["sh", "-c", OPERATOR])
    assert made.returncode == 0, made.stderr
    booted[SUDO].write("/etc/sudoers.d/deployer", NO_PASSWORD, mode=0o440)
    yield booted
    for name in booted:
        world.fleet.remove(name)


@pytest.fixture(scope="module")
def torn(world: World, hosts: Mapping[str, LabHost]) -> Result:
    """Deploy to all four, one without power from the start and one whose cable is pulled while it builds."""
    hosts[DARK].power_cut()
    pulling = threading.Thread(target=_pull_when_building, args=(hosts[PULLED],))
    pulling.start()
    result = world.deploy(FLEET, driver_reboot_timeout_s=120, rollout_max_failures=2)
    pulling.join()
    return result


def _pull_when_building(host: LabHost) -> None:
    building = host.rootfs / "var/log/rackhand/venv.log"
    deadline = time.monotonic() + PULL_TIMEOUT_S
    while not building.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    host.unplug()


def test_the_others_become_healthy_while_one_is_dark_and_one_loses_its_cable(torn: Result) -> None:
    assert torn.status == 1
    assert healthy(torn, GOOD), torn.printed
    assert healthy(torn, SUDO), torn.printed


def test_a_host_without_power_is_reported_as_unreachable_in_one_line(torn: Result) -> None:
    assert torn.host(DARK)["status"] == "unreachable"
    line = only_line(torn, DARK)
    assert "[unreachable]" in line
    assert "check the host" in line


def test_a_host_that_loses_its_cable_is_reported_as_failed_in_one_line(torn: Result) -> None:
    assert torn.host(PULLED)["status"] == "failed"
    line = only_line(torn, PULLED)
    assert "the SSH connection is gone" in line
    assert "[connection-lost]" in line
    assert "run again: the deploy continues where it was" in line
    assert torn.report["seconds"] < 300, "it is noticed long before any step's own deadline"


def test_after_the_repair_the_next_run_finishes_what_is_missing(
    world: World, hosts: Mapping[str, LabHost], torn: Result
) -> None:
    hosts[PULLED].plug()
    hosts[DARK].power_on()
    result = world.deploy(FLEET)
    assert result.status == 0, result.printed
    assert [healthy(result, name) for name in FLEET] == [True] * 4
    assert [result.host(name)["status"] for name in (GOOD, SUDO)] == ["unchanged"] * 2
    assert result.changed(SUDO) == []
    assert result.changed(PULLED)[0] == "Engine | environment", "what was done before is not done again"


def test_a_login_user_with_sudo_brought_the_uploads_and_owns_nothing(
    hosts: Mapping[str, LabHost], torn: Result
) -> None:
    assert healthy(torn, SUDO)
    found = hosts[SUDO].run(["find", "/opt/rackhand", "-user", "deployer", "-not", "-path", "*/incoming*"])
    assert found.stdout == ""
    assert hosts[SUDO].run(["sh", "-c", "ls /opt/rackhand/bin/uv-* /opt/rackhand/models/*/config.json"]).returncode == 0


def test_hosts_that_cannot_be_managed_are_refused_and_the_good_one_is_left_alone(
    world: World, hosts: Mapping[str, LabHost], torn: Result
) -> None:
    _break(hosts)
    before = files(hosts[GOOD])
    result = world.deploy(FLEET)
    assert result.status == 1
    assert result.host(GOOD)["status"] == "not run"
    assert touched(before, files(hosts[GOOD])) == []
    assert "nothing was changed on any host: 3 of 4 refused" in result.printed
    for name, words in REMEDIES.items():
        line = only_line(result, name)
        assert [word for word in words if word not in line] == []


def test_a_limit_without_a_match_ends_at_once_with_one_line(world: World, torn: Result) -> None:
    result = world.deploy(FLEET, "-y", "--limit", "@lab/accgod")
    assert result.status == 1
    assert result.stdout == ""
    said = [line for line in result.printed.splitlines() if not line.startswith("--> Loading config")]
    assert said == [
        f"rackhand: --limit: '@lab/accgod' matches no host and no group [limit] → did you mean @lab/{GOOD}?"
    ]


def test_a_fleet_without_a_single_reachable_host_is_a_failure(world: World, hosts: Mapping[str, LabHost]) -> None:
    hosts[DARK].power_cut()
    result = world.deploy({DARK: H100})
    assert result.status == 1
    assert f"[@lab/{DARK}] no route to {hosts[DARK].address}" in result.printed
    assert "No hosts remaining!" in result.printed


def _break(hosts: Mapping[str, LabHost]) -> None:
    """Let sudo ask for a password, take Python away, and let Python answer nonsense."""
    hosts[SUDO].write("/etc/sudoers.d/deployer", PASSWORD, mode=0o440)
    for name in (DARK, PULLED):
        assert hosts[name].run(["mv", "/usr/bin/python3", "/usr/bin/python3.away"]).returncode == 0
    hosts[PULLED].write("/usr/bin/python3", NONSENSE, mode=0o755)
