"""How an installed driver becomes the loaded one on practice hosts: by an exchange of modules, or else by a reboot."""

from collections.abc import Iterator

import pytest

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import Result, World
from tests.lab.driver_state import NEW, OLD, behind_our_back, boots_of, loaded, nvml, versions
from tests.lab.failing import failed

pytestmark = pytest.mark.lab

BOARD = "board"
HOSTS = {BOARD: {"lab_personality": "8xH100-nvswitch"}}
LOAD = "Driver | load"
SERVICES = ("nvidia-persistenced", "nvidia-fabricmanager", "rackhand-hardware", "dcgm-exporter")
# Holds a GPU as long as it runs.
HOLD = "import os, signal; os.open('/dev/nvidia0', os.O_PATH); signal.pause()"
EXPORTER = f"""[Service]
ExecStart=/usr/bin/python3 -c "{HOLD}"

[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("activate"))


@pytest.fixture(scope="module")
def bare(world: World) -> Iterator[tuple[Result, list[str]]]:
    """Deploy to a bare host, and collect its boot ids meanwhile."""
    host = world.fleet.up(BOARD, "8xH100-nvswitch")
    host.wait_ssh()
    with boots_of(host) as boots:
        result = deploy(world, OLD)
    yield result, boots
    world.fleet.remove(BOARD)


@pytest.fixture
def host(world: World, bare: tuple[Result, list[str]]) -> LabHost:
    """A board with NVSwitches that serves, and on which somebody's own exporter of DCGM's runs as well."""
    assert bare[0].status == 0, bare[0].printed
    found = world.fleet.host(BOARD)
    found.write("/etc/systemd/system/dcgm-exporter.service", EXPORTER)
    found.run(["systemctl", "enable", "--now", "dcgm-exporter"])
    return found


def deploy(world: World, version: str, **wishes: object) -> Result:
    return world.deploy(HOSTS, driver_version=version, serve_instances=1, metrics_hardware="textfile", **wishes)


def running(host: LabHost) -> set[str]:
    return {name for name in SERVICES if host.run(["systemctl", "is-active", "--quiet", name]).returncode == 0}


def how(result: Result) -> str:
    """Return what the step said that loaded the driver."""
    return next(step["summary"] for step in result.host(BOARD)["steps"] if step["name"] == LOAD)


def out_of_service(result: Result) -> str:
    return next(line for line in result.printed.splitlines() if line.startswith("out of service for"))


def test_a_first_driver_is_loaded_without_a_reboot(world: World, bare: tuple[Result, list[str]]) -> None:
    result, boots = bare
    assert result.status == 0, result.printed
    assert len(boots) == 1
    assert how(result) == f"no driver is loaded, {OLD} is installed: load it"
    assert loaded(world.fleet.host(BOARD)) == OLD


def test_another_version_is_loaded_without_a_reboot_and_what_had_run_runs_again(world: World, host: LabHost) -> None:
    before = host.boot_id
    result = deploy(world, NEW)
    assert result.status == 0, result.printed
    assert host.boot_id == before
    assert loaded(host) == NEW
    assert set(versions(host).values()) == {NEW}
    assert how(result) == f"{OLD} is loaded, {NEW} is installed: reload its modules"
    assert running(host) == set(SERVICES)
    print(out_of_service(result))


def test_a_mismatch_behind_our_back_is_cured_without_a_reboot(world: World, host: LabHost) -> None:
    behind_our_back(host, OLD)
    assert "mismatch" in nvml(host)
    before = host.boot_id
    result = deploy(world, OLD, driver_reboot_allowed=False)
    assert result.status == 0, result.printed
    assert host.boot_id == before
    assert loaded(host) == OLD
    assert running(host) == set(SERVICES)


def test_a_foreign_process_on_a_gpu_is_named_before_anything_is_stopped(world: World, host: LabHost) -> None:
    host.run(["systemd-run", "--unit=notebook", "python3", "-c", HOLD])
    serving = host.run(["systemctl", "show", "-p", "MainPID", "--value", "vllm@tiny-0"]).stdout
    try:
        line = failed(deploy(world, NEW), BOARD, "gpu-held")
    finally:
        host.run(["systemctl", "stop", "notebook"])
    assert "python3 (pid " in line
    assert "systemctl stop notebook.service" in line
    assert set(versions(host).values()) == {OLD}
    assert loaded(host) == OLD
    assert running(host) == set(SERVICES)
    assert host.run(["systemctl", "show", "-p", "MainPID", "--value", "vllm@tiny-0"]).stdout == serving


def test_modules_that_are_stuck_take_a_reboot(world: World, host: LabHost) -> None:
    host.run(["modprobe", "nvidia_drm"])
    host.write("/sys/module/nvidia_drm/refcnt", "1\n")
    with boots_of(host) as boots:
        result = deploy(world, NEW)
    assert result.status == 0, result.printed
    assert len(boots) == 2
    assert loaded(host) == NEW
    print(out_of_service(result))


NOUVEAU, GONE, SPARED = "nouveau", "gone", "spared"
LATER_KERNEL, LATER_MODULES = "/boot/vmlinuz-99.0.0-later", "/lib/modules/99.0.0-later"
# What a host has that does not come back from a reboot by itself.
POWER_OFF = "[Unit]\nRequires=systemd-poweroff.service\nAfter=systemd-poweroff.service\nAllowIsolate=yes\n"


def with_nouveau(world: World, name: str) -> LabHost:
    """Boot a bare host on which the free driver has the GPUs."""
    host = world.fleet.up(name, "1xL4")
    host.wait_ssh()
    host.write("/etc/rackhand-lab/nouveau", "")
    assert host.run(["modprobe", "nouveau"]).returncode == 0
    return host


def test_nouveau_is_ended_by_a_reboot_that_comes_only_once_the_next_kernel_has_the_driver(world: World) -> None:
    host = with_nouveau(world, NOUVEAU)
    one = {NOUVEAU: {"lab_personality": "1xL4"}}
    host.write(LATER_KERNEL, "")
    before = host.boot_id
    assert "99.0.0-later" in failed(world.deploy(one, driver_version=NEW), NOUVEAU, "kernel-headers")
    assert versions(host) == {}
    host.write(f"{LATER_MODULES}/build/Makefile", "")
    line = failed(world.deploy(one, driver_version=NEW), NOUVEAU, "module-missing")
    assert "99.0.0-later boots next and has no module" in line
    assert "reboot (nouveau has the GPUs)" in line
    assert host.boot_id == before
    host.run(["rm", "-r", LATER_KERNEL, LATER_MODULES])
    with boots_of(host) as boots:
        result = world.deploy(one, driver_version=NEW)
    assert result.status == 0, result.printed
    assert len(boots) == 2
    assert loaded(host) == NEW
    assert host.run(["test", "-e", "/sys/module/nouveau"]).returncode == 1
    world.fleet.remove(NOUVEAU)


def test_a_host_that_does_not_come_back_is_told_and_no_other_begins(world: World) -> None:
    host = with_nouveau(world, GONE)
    host.write("/etc/systemd/system/reboot.target", POWER_OFF)
    host.run(["systemctl", "daemon-reload"])
    hosts = {name: {"lab_personality": "1xL4"} for name in (GONE, SPARED)}
    result = world.deploy(hosts, driver_version=NEW, driver_reboot_timeout_s=20)
    line = failed(result, GONE, "reboot")
    assert "not back with a new boot id after 20 s" in line
    assert result.problem(SPARED)["code"] == "rollout-stopped"
    assert versions(world.fleet.host(SPARED)) == {}
    for name in hosts:
        world.fleet.remove(name)
