"""Engines that share a GPU start one after the other, in a deploy and at boot, on the CPUs beside their GPUs."""

from collections.abc import Iterator

import pytest

from rackhand.lab.fleet import Fleet
from tests.lab.serving import Rack

pytestmark = pytest.mark.lab

SHARED = {"serve_gpu_shares": (0.45, 0.45), "serve_instances": 5, "serve_shutdown_timeout_s": 1}
NAMES = tuple(f"tiny-{number}" for number in range(5))
DELAY_S = 6


@pytest.fixture(scope="module")
def rack(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """Yield a host with two sockets on whose first GPUs two engines each serve."""
    rack = Rack.of(fleet, tmp_path_factory.mktemp("sharing"), "sharing", "4xA10-two-sockets")
    rack.serves(**SHARED)
    yield rack
    fleet.remove("sharing")


def started_s(rack: Rack, name: str) -> float:
    """Return when an engine's process was started, in seconds after boot."""
    return int(rack.unit(name, "ExecMainStartTimestampMonotonic")[0]) / 1e6


def allowed(rack: Rack, name: str) -> str:
    return rack.does(f"sed -n 's/^Cpus_allowed_list:\\s*//p' /proc/{rack.pid(name)}/status").strip()


def test_each_engine_has_the_cpus_beside_its_gpu(rack: Rack) -> None:
    nodes = [rack.does(f"cat /sys/devices/system/node/node{node}/cpulist").strip() for node in (0, 1)]
    assert [allowed(rack, name) for name in NAMES] == [nodes[0]] * 4 + [nodes[1]]


def test_a_deploy_starts_the_second_after_the_first_was_ready(rack: Rack) -> None:
    times = {name: started_s(rack, name) for name in NAMES}
    assert max(times[name] for name in ("tiny-0", "tiny-2", "tiny-4")) < min(times["tiny-1"], times["tiny-3"])


def test_a_second_run_changes_nothing(rack: Rack) -> None:
    assert rack.serves(**SHARED).changed("sharing") == []


def test_after_a_boot_the_second_waits_until_the_first_answers(rack: Rack) -> None:
    rack.host.write("/etc/rackhand-lab/standin.conf", f"fault slow-start {DELAY_S} port=8000\n")
    rack.host.reboot()
    rack.host.wait_ssh()
    assert rack.becomes(lambda: all(rack.unit(name, "ActiveState") == ["active"] for name in NAMES), 90)
    times = {name: started_s(rack, name) for name in NAMES}
    assert times["tiny-1"] >= times["tiny-0"] + DELAY_S
    rack.breaks()


def test_one_that_was_stopped_is_not_waited_for(rack: Rack) -> None:
    rack.does("systemctl stop vllm@tiny-0 vllm@tiny-1")
    assert rack.becomes(lambda: rack.unit("tiny-0", "ActiveState") == ["inactive"])
    rack.does("systemctl start vllm@tiny-1")
    assert rack.becomes(lambda: rack.unit("tiny-1", "ActiveState") == ["active"])
    rack.serves(**SHARED)


def test_one_share_less_takes_its_drop_in_away(rack: Rack) -> None:
    result = rack.serves(**{**SHARED, "serve_instances": 4})
    assert "Switch | drain, stop, start, gate" in result.changed("sharing")
    left = rack.does("ls /etc/systemd/system/vllm@*.service.d/rackhand.conf").split()
    assert [path.split("@")[1].split(".")[0] for path in left] == list(NAMES[:4])
