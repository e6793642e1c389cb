"""What runs beside the driver and what GPUs are set to on practice hosts: after an install, a boot, another run."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import Result, World

pytestmark = pytest.mark.lab

BOARD, CARD = "board", "card"
HOSTS = {BOARD: {"lab_personality": "8xH100-nvswitch"}, CARD: {"lab_personality": "1xL4"}}
STEP = "GPUs | persistence, fabric, nodes"
WISHES: Mapping[str, Any] = {"gpu_power_limit_w": {"H100": 500, "L4": 60}, "serve_instances": 1, "rollout_waves": [2]}
MODULES = "nvidia\nnvidia_uvm\n"
PAGE = "/var/lib/prometheus/node-exporter/rackhand_gpu.prom"
ALWAYS = {"nvidia-persistenced", "rackhand-gpus", "rackhand-hardware"}
PAGE_S = 20


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("gpus"))


@pytest.fixture(scope="module")
def installed(world: World) -> Iterator[Result]:
    """Deploy to two bare hosts: a board with NVSwitches, and a single card."""
    yield world.deploy(HOSTS, **WISHES)
    for name in HOSTS:
        world.fleet.remove(name)


@pytest.fixture
def board(world: World, installed: Result) -> LabHost:
    assert installed.status == 0, installed.printed
    return world.fleet.host(BOARD)


@pytest.fixture
def card(world: World, installed: Result) -> LabHost:
    assert installed.status == 0, installed.printed
    return world.fleet.host(CARD)


def asked(host: LabHost, *queries: str) -> set[str]:
    """Return what NVML answers of all GPUs, equal answers once."""
    done = host.run(["nvidia-smi", f"--query-gpu={','.join(queries)}", "--format=csv,noheader,nounits"])
    return set(done.stdout.splitlines())


def running(host: LabHost) -> set[str]:
    names = (*ALWAYS, "nvidia-fabricmanager", "nvidia-imex")
    return {name for name in names if host.run(["systemctl", "is-active", "--quiet", name]).returncode == 0}


def page(host: LabHost, holds: str) -> str:
    """Return the page of metrics once it holds something, as a node exporter would read it."""
    deadline = time.monotonic() + PAGE_S
    while holds not in (text := host.run(["cat", PAGE]).stdout):
        assert time.monotonic() < deadline, text
        time.sleep(0.3)
    return text


def test_an_install_leaves_running_what_these_gpus_need_and_nothing_else(board: LabHost, card: LabHost) -> None:
    assert running(board) == {*ALWAYS, "nvidia-fabricmanager"}
    assert running(card) == ALWAYS
    for host in (board, card):
        assert MODULES in host.run(["cat", "/etc/modules-load.d/rackhand-nvidia.conf"]).stdout
    assert asked(board, "persistence_mode", "power.limit") == {"Enabled, 500.00"}
    assert asked(card, "persistence_mode", "power.limit") == {"Enabled, 60.00"}


def test_a_second_run_finds_nothing_to_do(world: World, board: LabHost) -> None:
    again = world.deploy({BOARD: HOSTS[BOARD]}, **WISHES)
    assert again.status == 0, again.printed
    assert again.changed(BOARD) == []


def test_all_of_it_is_there_after_a_boot(board: LabHost, card: LabHost) -> None:
    for host in (board, card):
        host.reboot()
        host.run(["systemctl", "start", "multi-user.target"])
    assert running(board) == {*ALWAYS, "nvidia-fabricmanager"}
    assert running(card) == ALWAYS
    assert asked(board, "persistence_mode", "power.limit") == {"Enabled, 500.00"}
    assert asked(card, "persistence_mode", "power.limit") == {"Enabled, 60.00"}


def test_what_the_gpus_measure_is_there_after_a_boot_and_never_stale(board: LabHost) -> None:
    text = page(board, "rackhand_gpu_up")
    assert text.count("rackhand_gpu_power_limit_watts{") == 8
    assert 'rackhand_gpu_devices{seen_by="pci"} 8\n' in text
    board.run(["modprobe", "--forget", "nvidia_uvm", "nvidia"])
    board.run(["systemctl", "restart", "rackhand-hardware"])
    assert page(board, "rackhand_gpu_up").splitlines()[2:] == ['rackhand_gpu_up{state="not-loaded"} 0']
    board.run(["modprobe", "nvidia", "nvidia_uvm"])
    board.run(["systemctl", "restart", "rackhand-hardware"])
    page(board, 'rackhand_gpu_up{state="ok"} 1')
    board.run(["systemctl", "kill", "--signal=SIGKILL", "rackhand-hardware"])
    deadline = time.monotonic() + PAGE_S
    while not board.run(["test", "-e", PAGE]).returncode:
        assert time.monotonic() < deadline, "whoever kills the service takes the page with it"
        time.sleep(0.3)


def test_what_was_stopped_or_set_by_hand_is_put_back_without_a_restart_of_servers(world: World, card: LabHost) -> None:
    only = {CARD: HOSTS[CARD]}
    card.run(["systemctl", "disable", "--now", "nvidia-persistenced"])
    assert asked(card, "persistence_mode") == {"Disabled"}
    healed = world.deploy(only, **{name: value for name, value in WISHES.items() if name != "gpu_power_limit_w"})
    assert healed.status == 0, healed.printed
    assert healed.changed(CARD) == [STEP]
    assert asked(card, "persistence_mode", "power.limit") == {"Enabled, 72.00"}, "a limit of ours goes back"
