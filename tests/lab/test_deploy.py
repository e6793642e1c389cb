"""The deploy on practice hosts, with stand-in engines: fresh, again, changed, interrupted."""

import pytest

from rackhand.lab.fleet import Fleet
from tests.lab.deploying import World

pytestmark = pytest.mark.lab

TWO = {"pair": {"lab_personality": "2xRTX4090", "gpu_count": 2}}


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("world"))


def test_a_bare_host_becomes_two_healthy_servers_pinned_by_uuid(world: World) -> None:
    result = world.deploy(TWO)
    assert result.status == 0, result.printed
    host = result.host("pair")
    assert host["status"] == "healthy"
    assert [instance["gate"] for instance in host["instances"]] == ["passed", "passed"]
    assert [instance["port"] for instance in host["instances"]] == [8000, 8001]
    pinned = [instance["gpus"] for instance in host["instances"]]
    assert all(len(gpus) == 1 and gpus[0].startswith("GPU-") for gpus in pinned)
    assert pinned[0] != pinned[1]
    for instance in host["instances"]:
        environ = world.fleet.host("pair").run(
            ["sh", "-c", f"cat /proc/$(systemctl show -P MainPID vllm@{instance['name']})/environ"]
        )
        assert f"CUDA_VISIBLE_DEVICES={instance['gpus'][0]}" in environ.stdout.split("\0")


def test_a_second_run_changes_nothing_and_says_so(world: World) -> None:
    result = world.deploy(TWO)
    assert result.status == 0, result.printed
    assert result.changed("pair") == []
    assert "nothing changed" in result.report["verdict"]
    assert result.host("pair")["ssh_commands"] <= 12
    assert result.report["seconds"] < 10
