"""`rackhand plan` over real SSH: bare hosts are planned from what the PCI bus says, and stay as they were."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet
from tests.lab.deploying import World
from tests.lab.evidence import files

pytestmark = pytest.mark.lab

HOSTS: dict[str, dict[str, Any]] = {
    "planbig": {"lab_personality": "8xH100-nvswitch", "gpu_count": 8},
    "planold": {"lab_personality": "1xP100"},
}
PLAN_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Boot the hosts and write their inventory, with one that is not there."""
    world = World(fleet=fleet, directory=tmp_path_factory.mktemp("plans"))
    world.inventory(HOSTS)
    for name, data in HOSTS.items():
        fleet.up(name, data["lab_personality"]).wait_ssh()
    yield world
    for name in HOSTS:
        fleet.remove(name)


def planned(world: World, *words: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "rackhand.cli", "plan", str(world.directory / "world.py"), *words, "--json"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=dict(os.environ), capture_output=True, text=True, timeout=PLAN_TIMEOUT_S, check=False
    )
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


def test_bare_hosts_are_planned_or_refused_and_left_as_they_were(world: World) -> None:
    hosts = [world.fleet.host(name) for name in HOSTS]
    before = [files(host) for host in hosts]
    status, found = planned(world)
    assert status == 2
    big, old = found["hosts"]
    assert (big["name"], big["status"]) == ("@lab/planbig", "planned")
    assert len(big["plan"]["instances"]) == 8
    assert all(each["kv_tokens"] > 0 for each in big["plan"]["instances"])
    assert (old["name"], old["status"]) == ("@lab/planold", "refused")
    assert "gpu-too-old" in [reason["code"] for reason in old["plan"]["reasons"]]
    assert [files(host) for host in hosts] == before


def test_one_host_can_be_planned_alone(world: World) -> None:
    status, found = planned(world, "--limit", "@lab/planbig")
    assert status == 0
    assert [host["name"] for host in found["hosts"]] == ["@lab/planbig"]


def test_a_host_without_ssh_is_named_and_the_others_are_planned(world: World) -> None:
    inventory = world.directory / "world.py"
    text = inventory.read_text()
    inventory.write_text(
        text + 'gone = (["nowhere"], {"ssh_hostname": "127.0.0.1", "ssh_port": 9, "model_name": "tiny"})\n'
    )
    try:
        status, found = planned(world)
    finally:
        inventory.write_text(text)
    assert status == 1
    assert {host["name"]: host["status"] for host in found["hosts"]} == {
        "@lab/planbig": "planned",
        "@lab/planold": "refused",
        "nowhere": "unreachable",
    }
