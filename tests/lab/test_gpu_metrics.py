"""Who measures GPUs stops for a driver that is exchanged and comes back: our page, and NVIDIA's exporter."""

import time
from collections.abc import Iterator

import pytest

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import Result, World

pytestmark = pytest.mark.lab

PAGED, EXPORTED = "paged", "exported"
HOSTS = {
    PAGED: {"lab_personality": "1xL4"},
    EXPORTED: {"lab_personality": "1xL4", "metrics_hardware": "dcgm"},
}
TOGETHER = {"rollout_waves": [2], "rollout_max_out": 2}
OLD, NEW = "580.126.20", "595.71.05"
PAGE = "/var/lib/prometheus/node-exporter/rackhand_gpu.prom"
PAGE_S = 60


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="module")
def installed(world: World) -> Iterator[Result]:
    yield world.deploy(HOSTS, driver_version=OLD, **TOGETHER)
    for name in HOSTS:
        world.fleet.remove(name)


@pytest.fixture
def paged(world: World, installed: Result) -> LabHost:
    assert installed.status == 0, installed.printed
    return world.fleet.host(PAGED)


@pytest.fixture
def exported(world: World, installed: Result) -> LabHost:
    assert installed.status == 0, installed.printed
    return world.fleet.host(EXPORTED)


def page(host: LabHost, holds: str) -> str:
    deadline = time.monotonic() + PAGE_S
    while holds not in (text := host.run(["cat", PAGE]).stdout):
        assert time.monotonic() < deadline, text
        time.sleep(0.3)
    return text


def metrics(host: LabHost) -> str:
    return host.run(["curl", "-sS", "http://127.0.0.1:9400/metrics"]).stdout


def boot(host: LabHost) -> str:
    return host.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout


def test_nvidias_exporter_is_installed_and_answers_where_it_is_wished(exported: LabHost, paged: LabHost) -> None:
    assert f'DCGM_FI_DRIVER_VERSION="{OLD}"' in metrics(exported)
    assert exported.run(["test", "-e", PAGE]).returncode, "one of them measures, not both"
    assert f'rackhand_gpu_driver_info{{version="{OLD}"}} 1' in page(paged, "driver_info")
    assert paged.run(["systemctl", "is-active", "nvidia-dcgm-exporter"]).returncode


def test_both_stop_for_another_driver_and_tell_of_it_afterwards(
    world: World, exported: LabHost, paged: LabHost
) -> None:
    before = [boot(exported), boot(paged)]
    upgraded = world.deploy(HOSTS, driver_version=NEW, **TOGETHER)
    assert upgraded.status == 0, upgraded.printed
    assert f'DCGM_FI_DRIVER_VERSION="{NEW}"' in metrics(exported)
    page(paged, f'rackhand_gpu_driver_info{{version="{NEW}"}} 1')
    assert [boot(exported), boot(paged)] == before, "nobody held the modules that were exchanged"
    assert all(upgraded.host(name)["warnings"] == [] for name in HOSTS)
    again = world.deploy(HOSTS, driver_version=NEW, **TOGETHER)
    assert [again.changed(name) for name in HOSTS] == [[], []]
