"""What runs beside the driver and what GPUs are set to on practice hosts: after an install, a boot, another run."""

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
    names = ("nvidia-persistenced", "nvidia-fabricmanager", "nvidia-imex", "rackhand-gpus")
    return {name for name in names if host.run(["systemctl", "is-active", "--quiet", name]).returncode == 0}


def test_an_install_leaves_running_what_these_gpus_need_and_nothing_else(board: LabHost, card: LabHost) -> None:
    assert running(board) == {"nvidia-persistenced", "nvidia-fabricmanager", "rackhand-gpus"}
    assert running(card) == {"nvidia-persistenced", "rackhand-gpus"}
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
    assert running(board) == {"nvidia-persistenced", "nvidia-fabricmanager", "rackhand-gpus"}
    assert running(card) == {"nvidia-persistenced", "rackhand-gpus"}
    assert asked(board, "persistence_mode", "power.limit") == {"Enabled, 500.00"}
    assert asked(card, "persistence_mode", "power.limit") == {"Enabled, 60.00"}


def test_what_was_stopped_or_set_by_hand_is_put_back_without_a_restart_of_servers(world: World, card: LabHost) -> None:
    only = {CARD: HOSTS[CARD]}
    card.run(["systemctl", "disable", "--now", "nvidia-persistenced"])
    assert asked(card, "persistence_mode") == {"Disabled"}
    healed = world.deploy(only, **{name: value for name, value in WISHES.items() if name != "gpu_power_limit_w"})
    assert healed.status == 0, healed.printed
    assert healed.changed(CARD) == [STEP]
    assert asked(card, "persistence_mode", "power.limit") == {"Enabled, 72.00"}, "a limit of ours goes back"
