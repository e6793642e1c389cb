"""Services on a practice host: only what a change touches restarts, and whatever was done by hand is put right."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet
from tests.lab.serving import Rack

pytestmark = pytest.mark.lab

BOTH = ("tiny-0", "tiny-1")
SHORT = {"serve_shutdown_timeout_s": 1}
CURRENT = "/opt/rackhand/current"
STAGE, SWITCH = "Release | stage", "Switch | drain, stop, start, gate"
VERSIONS = "for port in 8000 8001; do curl -s 127.0.0.1:$port/version; done"


@pytest.fixture(scope="module")
def rack(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """Yield a host that serves with two engines."""
    rack = Rack.of(fleet, tmp_path_factory.mktemp("pair"), "twin", "2xRTX4090")
    rack.serves(**SHORT)
    yield rack
    fleet.remove("twin")


def pids(rack: Rack) -> list[int]:
    return [rack.pid(name) for name in BOTH]


def again(rack: Rack, **settings: Any) -> list[str]:
    """Run once more, require that every engine passes the gate, and return what changed."""
    result = rack.serves(**{**SHORT, **settings})
    assert {item["gate"] for item in result.host(rack.name)["instances"]} == {"passed"}
    return result.changed(rack.name)


def test_a_run_without_a_change_leaves_the_processes_alone(rack: Rack) -> None:
    before = pids(rack)
    assert again(rack) == []
    assert pids(rack) == before


def test_a_setting_of_one_host_restarts_its_engines_and_no_other_host(fleet: Fleet, rack: Rack) -> None:
    other = Rack(world=rack.world, name="beside", data={"lab_personality": "1xH100"})
    hosts = {rack.name: rack.data, other.name: other.data}
    assert rack.world.deploy(hosts, **SHORT).status == 0
    before, boots = [*pids(rack), other.pid("tiny-0")], [rack.host.boot_id, other.host.boot_id]
    hosts[rack.name] = {**rack.data, "serve_env": {"VLLM_LOGGING_LEVEL": "DEBUG"}}
    result = rack.world.deploy(hosts, **SHORT)
    assert result.status == 0, result.printed
    after = [*pids(rack), other.pid("tiny-0")]
    assert [old != new for old, new in zip(before, after, strict=True)] == [True, True, False]
    assert [rack.host.boot_id, other.host.boot_id] == boots
    assert result.changed(rack.name) == [STAGE, SWITCH]
    assert result.changed(other.name) == []
    assert result.host(other.name)["status"] == "unchanged"
    fleet.remove(other.name)


def test_a_changed_option_reaches_the_engine(rack: Rack) -> None:
    assert again(rack, serve_max_model_len=128) == [STAGE, SWITCH]
    assert '"max_model_len": 128' in rack.does("curl -s http://127.0.0.1:8000/v1/models")
    assert again(rack, serve_max_model_len=128) == []
    assert again(rack) == [SWITCH]


def test_a_release_that_leaves_an_engine_as_it_is_does_not_restart_it(rack: Rack) -> None:
    before = pids(rack)
    assert again(rack, serve_instances=1) == [STAGE, SWITCH]
    assert [rack.pid("tiny-0"), rack.left()] == [before[0], ["tiny-0 active", "tiny-0 enabled"]]
    assert again(rack, serve_instances=1) == []
    assert again(rack) == [SWITCH]
    assert rack.pid("tiny-0") == before[0]


def test_a_restart_is_made_up_for_when_the_release_was_switched_by_other_hands(rack: Rack) -> None:
    before = pids(rack)
    again(rack, serve_env={"MARK": "1"})
    changed = pids(rack)
    rack.does(f"ln -sfn $(readlink {CURRENT}) /opt/rackhand/previous-by-hand")
    again(rack)
    # The processes run without MARK; now the files say MARK, as after a run that died before its restart.
    rack.does(f"ln -sfn $(readlink /opt/rackhand/previous-by-hand) {CURRENT}; rm /opt/rackhand/previous-by-hand")
    plain = pids(rack)
    assert again(rack, serve_env={"MARK": "1"}) == [SWITCH]
    assert len({*before, *changed, *plain, *pids(rack)}) == 8
    assert "MARK=1" in rack.does(f"tr '\\0' '\\n' < /proc/{rack.pid('tiny-1')}/environ")
    again(rack)


def test_a_host_whose_run_was_killed_in_the_middle_of_its_turn_goes_back_by_itself(rack: Rack) -> None:
    link = Path(f"/proc/{rack.host.pid}/root{CURRENT}")
    order, current = link.parent / "turn/order.json", link.readlink()
    rack.world.inventory({rack.name: rack.data}, **SHORT, serve_env={"MARK": "2"}, rollout_confirm_s=5)
    with subprocess.Popen(
        rack.world.command("-y"), cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        while link.readlink() == current and run.poll() is None:
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGKILL)
    assert link.readlink() != current
    assert rack.becomes(lambda: link.readlink() == current and not order.exists(), 60)
    assert rack.left() == [f"{name} {state}" for name in BOTH for state in ("active", "enabled")]
    assert "MARK" not in rack.does(f"tr '\\0' '\\n' < /proc/{rack.pid('tiny-0')}/environ")
    assert again(rack, serve_env={"MARK": "2"}, lease_break=True) == [SWITCH]
    again(rack)


@pytest.mark.parametrize(
    ("command", "restarted"),
    [
        ("systemctl stop vllm@tiny-1", True),
        ("systemctl disable --now vllm@tiny-1", True),
        ("systemctl disable vllm@tiny-1", False),
    ],
)
def test_an_engine_stopped_or_disabled_by_hand_comes_back(rack: Rack, command: str, restarted: bool) -> None:
    before = pids(rack)
    rack.does(command)
    assert again(rack) == [SWITCH]
    assert rack.unit("tiny-1", "ActiveState", "UnitFileState") == ["active", "enabled"]
    assert [old != new for old, new in zip(before, pids(rack), strict=True)] == [False, restarted]


def test_an_environment_changed_by_hand_is_restored_even_where_the_engine_runs_with_it(rack: Rack) -> None:
    before = pids(rack)
    rack.does(f"echo BY_HAND=1 >> {CURRENT}/instances/tiny-1.env; systemctl restart vllm@tiny-1")
    assert again(rack) == [STAGE, SWITCH]
    assert "BY_HAND" not in rack.does(f"tr '\\0' '\\n' < /proc/{rack.pid('tiny-1')}/environ")
    assert rack.does(f"grep -c BY_HAND {CURRENT}/instances/tiny-1.env").strip() == "0"
    assert rack.does(f"stat -c %a {CURRENT}/instances/tiny-1.env").strip() == "600"
    assert rack.pid("tiny-0") == before[0]
    assert again(rack) == []


def test_a_unit_file_changed_by_hand_is_restored(rack: Rack) -> None:
    rack.does("sed -i 's/^NoNewPrivileges=yes/NoNewPrivileges=no/' /etc/systemd/system/vllm@.service")
    rack.does("systemctl daemon-reload; systemctl restart vllm@tiny-0")
    assert again(rack) == [SWITCH]
    assert rack.unit("tiny-0", "NoNewPrivileges", "NeedDaemonReload") == ["yes", "no"]
    assert again(rack) == []


def test_systemd_restarts_an_engine_that_was_killed(rack: Rack) -> None:
    before = rack.pid("tiny-0")
    rack.does(f"kill -9 {before}")
    assert rack.becomes(lambda: rack.pid("tiny-0") not in (0, before))
    # The restart is no failure of the run that finds the engine starting.
    assert again(rack) == []
    assert rack.unit("tiny-0", "NRestarts") == ["1"]


def test_a_second_engine_that_dies_at_once_brings_back_the_first_as_well(rack: Rack) -> None:
    rack.breaks("dies-at-start port=8001 version=0.31.0")
    result = rack.deploy(**SHORT, **rack.world.engine("0.31.0"))
    rack.breaks()
    assert (result.status, result.host(rack.name)["status"]) == (1, "rolled back"), result.printed
    assert "[no-cache-memory]" in result.printed
    assert rack.left() == [f"{name} {state}" for name in BOTH for state in ("active", "enabled")]
    assert rack.does(VERSIONS).count("0.32.0") == 2
    assert again(rack) == []


def test_a_served_engine_that_falls_ill_is_reported_and_left_running(rack: Rack) -> None:
    before = pids(rack)
    rack.breaks("hangs-at-completion port=8000")
    result = rack.deploy(**SHORT)
    rack.breaks()
    assert result.status == 1
    problem = result.problem(rack.name)
    assert (problem["code"], problem["where"]) == ("gate-timeout", f"@lab/{rack.name} vllm@tiny-0")
    assert "systemctl restart vllm@tiny-0 on the host" in problem["next_step"]
    assert "the unit is left as it is" in problem["next_step"]
    assert [item["gate"] for item in result.host(rack.name)["instances"]] == ["failed", "passed"]
    assert pids(rack) == before
    assert again(rack) == []


def test_an_engine_that_ignores_sigterm_is_killed_within_the_units_stop_timeout(rack: Rack) -> None:
    rack.breaks("ignores-sigterm port=8000")
    rack.does("systemctl restart vllm@tiny-0")
    assert rack.becomes(lambda: "200" in rack.does("curl -s -o /dev/null -w '%{http_code}' 127.0.0.1:8000/health"))
    before, begun = rack.pid("tiny-0"), time.monotonic()
    rack.breaks()
    rack.does("systemctl restart vllm@tiny-0")
    limit_s = SHORT["serve_shutdown_timeout_s"] + 30
    assert limit_s - 2 < time.monotonic() - begun < limit_s + 10
    assert rack.pid("tiny-0") not in (0, before)
    assert "SIGKILL" in rack.does("journalctl -u vllm@tiny-0 -o cat -n 80")
    assert again(rack) == []


def test_after_a_reboot_the_engines_come_back_by_themselves_and_a_run_changes_nothing(rack: Rack) -> None:
    boot = rack.host.boot_id
    rack.host.reboot()
    assert rack.host.boot_id != boot
    # No wait for the engines: a run that finds them starting waits, and that is no change.
    result = rack.serves(**SHORT)
    assert result.changed(rack.name) == []
    assert result.host(rack.name)["status"] == "unchanged"
    assert all(pids(rack))
