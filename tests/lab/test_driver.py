"""The driver on practice hosts: pinned and held, up and down, out of step with its module, and every way to fail."""

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackhand.lab import driver_repo, signing
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import Result, World

pytestmark = pytest.mark.lab

OLD, NEW, NEWEST = "580.95.05", "580.126.20", "595.91.07"
HOST = "driver"
ONE = {HOST: {"lab_personality": "1xL4"}}
MEMBERS = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-modprobe", "libcuda1", "libnvidia-ml1")
HOLD_LOCK = """
import fcntl, os, sys, time
lock = open("/var/lib/dpkg/lock-frontend", "r+b")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(float(sys.argv[1]))
"""


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


def versions(host: LabHost) -> dict[str, str]:
    """Return the driver versions of the installed packages; what is half-installed has its state for a version."""
    listing = host.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status} ${Version}\n", "*nvidia*", "libcuda*"]
    )
    rows = [line.split() for line in listing.stdout.splitlines()]
    found = {row[0]: row[2].split("-")[0] if row[1] == "installed" else row[1] for row in rows if len(row) == 3}
    return {name: version for name, version in found.items() if version != "config-files"}


def nvml(host: LabHost) -> str:
    return host.run(["nvidia-smi"]).stdout


def loaded(host: LabHost) -> str:
    return host.run(["cat", "/sys/module/nvidia/version"]).stdout.strip()


def held(host: LabHost) -> set[str]:
    return set(host.run(["apt-mark", "showhold"]).stdout.split())


def behind_our_back(host: LabHost, version: str) -> None:
    """Upgrade as somebody with apt would who means it."""
    wanted = [f"{name}={version}-1" for name in versions(host)]
    options = ["-y", "--allow-change-held-packages", "--allow-downgrades"]
    done = host.run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", *options, *wanted])
    assert done.returncode == 0, done.stdout + done.stderr


def refused(result: Result, code: str) -> str:
    """Check that the run failed with one clear line under `code`, and return the line."""
    assert result.status == 1, result.printed
    problem = result.problem(HOST)
    assert problem["code"] == code, result.printed
    assert problem["where"] == f"@lab/{HOST}"
    line = f"{problem['where']}: {problem['what']} [{code}] → {problem['next_step']}"
    assert line in result.printed
    assert "Traceback" not in result.printed
    print(line)
    return line


def hold_lock(host: LabHost, seconds: float) -> subprocess.Popen[str]:
    """Hold dpkg's lock as apt does, by a process on the host that is not apt."""
    enter = ["nsenter", "-t", str(host.pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
    command = [*enter, "python3", "-c", HOLD_LOCK, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


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


def test_without_leave_to_reboot_a_new_version_is_not_even_installed(world: World, host: LabHost) -> None:
    result = world.deploy(ONE, driver_version=NEW, driver_reboot_allowed=False)
    line = refused(result, "reboot-needed")
    assert f"{OLD} is loaded, {NEW} is wished" in line
    assert set(versions(host).values()) == {OLD}


def test_a_changed_version_is_installed_and_loaded_by_exactly_one_reboot(world: World, host: LabHost) -> None:
    # A host that is only just being set up still shows the boot id of the machine around it.
    here = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    boots = [host.boot_id]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            now = host.boot_id
            if now not in (None, here, boots[-1]):
                boots.append(now)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = world.deploy(ONE, driver_version=NEW)
    finally:
        over.set()
        watcher.join()
    assert result.status == 0, result.printed
    assert len(boots) == 2, "one reboot, seen by its boot id"
    assert set(versions(host).values()) == {NEW}
    assert held(host) >= versions(host).keys()
    assert loaded(host) == NEW
    assert result.host(HOST)["driver"] == NEW
    assert {"Driver | install, pin, hold", "Driver | load"} <= set(result.changed(HOST))


def test_a_changed_version_may_be_an_older_one(world: World, host: LabHost) -> None:
    result = world.deploy(ONE, driver_version=OLD)
    assert result.status == 0, result.printed
    assert set(versions(host).values()) == {OLD}
    assert held(host) >= versions(host).keys()
    assert loaded(host) == OLD


def test_a_library_upgraded_behind_our_back_is_cured_by_a_reboot(world: World, host: LabHost) -> None:
    behind_our_back(host, NEW)
    assert "mismatch" in nvml(host)
    before = host.boot_id
    result = world.deploy(ONE, driver_version=NEW)
    assert result.status == 0, result.printed
    assert host.boot_id != before
    assert loaded(host) == NEW
    assert result.changed(HOST)[-1] != "Driver | load", "the server runs again after the reboot"


def test_a_mismatch_is_named_with_both_versions_where_no_reboot_is_allowed(world: World, host: LabHost) -> None:
    behind_our_back(host, OLD)
    before = host.boot_id
    try:
        result = world.deploy(ONE, driver_version=OLD, driver_reboot_allowed=False)
        line = refused(result, "reboot-needed")
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
        line = refused(world.deploy(ONE, driver_manage=False), "driver-not-ready")
        assert "mismatch" in line
    finally:
        behind_our_back(host, NEW)


def test_a_version_that_the_repository_lacks_is_answered_with_those_it_has(world: World, host: LabHost) -> None:
    before = versions(host)
    line = refused(world.deploy(ONE, driver_version="580.99.99"), "driver-version")
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
    line = refused(result, "repository-key")
    assert wrong in line
    assert driver_repo.fingerprint(driver_repo.build()) in line
    assert versions(host) == before


def test_a_repository_without_the_named_key_says_so(world: World, host: LabHost) -> None:
    before = versions(host)
    wrong = "0123456789ABCDEF0123456789ABCDEF01234567"
    line = refused(world.deploy(ONE, driver_key_fingerprint=wrong, driver_version=OLD), "repository-key")
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
    line = refused(result, "repository-signature")
    assert "/foreign" in line
    assert versions(host) == before
    healed = world.deploy(ONE, driver_version=NEW)
    assert healed.status == 0, healed.printed


def test_an_unreachable_repository_is_named(world: World, host: LabHost) -> None:
    before = versions(host)
    url = host.repository_url.replace(":8480", ":8481") + "/driver/debian12/x86_64"
    line = refused(world.deploy(ONE, driver_repository_url=url, driver_version=OLD), "repository-unreachable")
    assert url in line
    assert versions(host) == before


def test_a_held_lock_is_named_while_waiting_and_the_run_goes_on_once_it_is_free(world: World, host: LabHost) -> None:
    process = hold_lock(host, 25)
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
    line = refused(result, "apt-locked")
    assert "python3 (pid " in line
    assert "held apt's lock /var/lib/dpkg/lock-frontend" in line
    assert versions(host) == before


def test_an_interrupted_dpkg_is_answered_with_its_cure(world: World, host: LabHost) -> None:
    before = versions(host)
    host.write("/var/lib/dpkg/updates/0001", "Package: nothing-at-all\nStatus: install ok half-configured\n")
    try:
        line = refused(world.deploy(ONE, driver_version=NEW), "dpkg-interrupted")
        assert "dpkg --configure -a" in line
    finally:
        host.run(["rm", "-f", "/var/lib/dpkg/updates/0001"])
    assert versions(host) == before


def test_a_module_that_never_loads_ends_the_run_after_one_reboot(world: World, host: LabHost) -> None:
    publish = host.run(["cat", "/usr/lib/rackhand-lab/publish"]).stdout
    host.write("/usr/lib/rackhand-lab/publish", publish.replace('    load "$(cat', '    : "$(cat'), mode=0o755)
    boots = int(host.run(["sh", "-c", "journalctl --list-boots -q | wc -l"]).stdout)
    before = time.monotonic()
    try:
        result = world.deploy(ONE, driver_version=NEW)
        line = refused(result, "driver-not-loaded")
        assert f"no driver is loaded and {NEW} is installed" in line
        assert "Driver | load" in result.printed
        assert result.printed.count("Driver | load: reboot") == 1
        assert time.monotonic() - before < 120
        assert boots >= 0
    finally:
        host.write("/usr/lib/rackhand-lab/publish", publish, mode=0o755)
    healed = world.deploy(ONE, driver_version=NEW)
    assert healed.status == 0, healed.printed
    assert loaded(host) == NEW


def mirror(world: World, name: str) -> tuple[Path, str]:
    """Serve the packages of Debian 12 again under another address; return the directory and the name of its key."""
    built = driver_repo.build()
    place = world.fleet.places.www / name
    place.mkdir()
    for file in (built / "debian12" / "x86_64").iterdir():
        (place / file.name).symlink_to(file)
    return place, driver_repo.key_file(built)
