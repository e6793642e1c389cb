"""Driver installations that cannot go on: each with a line that says why, and the driver as it was."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackhand.lab import driver_repo, signing
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import World
from tests.lab.driver_state import NEW, NEWEST, OLD, loaded, versions
from tests.lab.failing import failed

pytestmark = pytest.mark.lab

HOST = "nodriver"
ONE = {HOST: {"lab_personality": "1xL4"}}
HOLD_LOCK = """
import fcntl, os, sys, time
lock = open("/var/lib/dpkg/lock-frontend", "r+b")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("nodriver"))


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[LabHost]:
    """One host with a driver; what fails below leaves it as it is."""
    result = world.deploy(ONE, driver_version=NEW)
    assert result.status == 0, result.printed
    yield world.fleet.host(HOST)
    world.fleet.remove(HOST)


def hold_lock(host: LabHost, seconds: float) -> subprocess.Popen[str]:
    """Hold dpkg's lock as apt does, by a process on the host that is not apt."""
    enter = ["nsenter", "-t", str(host.pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
    command = [*enter, "python3", "-c", HOLD_LOCK, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def mirror(world: World, name: str) -> tuple[Path, str]:
    """Serve the packages of Debian 12 again under another address; return the directory and the name of its key."""
    built = driver_repo.build()
    place = world.fleet.places.www / name
    place.mkdir()
    for file in (built / "debian12" / "x86_64").iterdir():
        (place / file.name).symlink_to(file)
    return place, driver_repo.key_file(built)


def test_a_version_that_the_repository_lacks_is_answered_with_those_it_has(world: World, host: LabHost) -> None:
    before = versions(host)
    line = failed(world.deploy(ONE, driver_version="580.99.99"), HOST, "driver-version")
    assert f"offered: {OLD}, {NEW}, 595.71.05, {NEWEST}" in line
    assert versions(host) == before
    assert f"version {loaded(host)}-" in host.run(["cat", "/etc/apt/preferences.d/rackhand-nvidia"]).stdout


def test_a_repository_with_another_key_is_not_trusted(world: World, host: LabHost) -> None:
    before = versions(host)
    wrong = "0123456789ABCDEF0123456789ABCDEF01234567"
    place, key = mirror(world, "impostor")
    (place / "01234567.pub").write_text((place / key).read_text())
    url = f"{host.repository_url}/impostor"
    result = world.deploy(ONE, driver_repository_url=url, driver_key_fingerprint=wrong, driver_version=OLD)
    line = failed(result, HOST, "repository-key")
    assert wrong in line
    assert driver_repo.fingerprint(driver_repo.build()) in line
    assert versions(host) == before


def test_a_repository_without_the_named_key_says_so(world: World, host: LabHost) -> None:
    before = versions(host)
    wrong = "0123456789ABCDEF0123456789ABCDEF01234567"
    line = failed(world.deploy(ONE, driver_key_fingerprint=wrong, driver_version=OLD), HOST, "repository-key")
    assert "HTTP 404" in line
    assert versions(host) == before


def test_a_repository_signed_by_somebody_else_is_refused_by_apt(world: World, host: LabHost, tmp_path: Path) -> None:
    before = versions(host)
    stranger = signing.key(tmp_path / "stranger")
    place, _ = mirror(world, "foreign")
    (place / f"{stranger.fingerprint[-8:].lower()}.pub").write_text(stranger.public)
    result = world.deploy(
        ONE,
        driver_repository_url=f"{host.repository_url}/foreign",
        driver_key_fingerprint=stranger.fingerprint,
        driver_version=OLD,
    )
    line = failed(result, HOST, "repository-signature")
    assert "/foreign" in line
    update = host.run(["apt-get", "update", "--error-on=any"])
    assert update.returncode == 0, "the refused repository is gone again: " + update.stderr
    assert versions(host) == before
    healed = world.deploy(ONE, driver_version=NEW)
    assert healed.status == 0, healed.printed


def test_an_unreachable_repository_is_named(world: World, host: LabHost) -> None:
    before = versions(host)
    url = host.repository_url.replace(":8480", ":8481") + "/driver/debian12/x86_64"
    line = failed(world.deploy(ONE, driver_repository_url=url, driver_version=OLD), HOST, "repository-unreachable")
    assert url in line
    assert versions(host) == before


def test_a_held_lock_is_named_while_waiting_and_the_run_goes_on_once_it_is_free(world: World, host: LabHost) -> None:
    process = hold_lock(host, 60)  # longer than a run takes to come to apt, on a busy machine too
    try:
        result = world.deploy(ONE, driver_version=OLD)
    finally:
        process.wait(60)
    assert result.status == 0, result.printed
    waiting = next(line for line in result.printed.splitlines() if "waiting for python3 (pid " in line)
    print(waiting)
    assert f"@lab/{HOST}" in waiting
    assert "which holds /var/lib/dpkg/lock-frontend" in waiting
    assert loaded(host) == OLD


def test_a_lock_that_is_never_released_fails_with_its_holder(world: World, host: LabHost) -> None:
    before = versions(host)
    process = hold_lock(host, 600)
    try:
        result = world.deploy(ONE, driver_version=NEW, driver_install_timeout_s=12)
    finally:
        process.kill()
        process.wait()
        host.run(["pkill", "-f", "lock-frontend"])
    line = failed(result, HOST, "apt-locked")
    assert "python3 (pid " in line
    assert "held apt's lock /var/lib/dpkg/lock-frontend" in line
    assert versions(host) == before


def test_an_interrupted_dpkg_is_answered_with_its_cure(world: World, host: LabHost) -> None:
    before = versions(host)
    host.write("/var/lib/dpkg/updates/0001", "Package: nothing-at-all\nStatus: install ok half-configured\n")
    try:
        line = failed(world.deploy(ONE, driver_version=NEW), HOST, "dpkg-interrupted")
        assert "dpkg --configure -a" in line
    finally:
        host.run(["rm", "-f", "/var/lib/dpkg/updates/0001"])
    assert versions(host) == before
