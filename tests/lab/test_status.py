"""`rackhand status` over real SSH: what drifted on a host is named, and looking changes nothing."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rackhand.lab import emulation, personality
from rackhand.lab.fleet import Fleet
from tests.lab.asking import told
from tests.lab.driver_state import NEW, OLD, behind_our_back
from tests.lab.evidence import files, touched
from tests.lab.serving import Rack

pytestmark = pytest.mark.lab

NAME = "watched"
CURRENT = "/opt/rackhand/current"
UNIT = "/etc/systemd/system/vllm@.service"


@pytest.fixture(scope="module")
def rack(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """Yield a host that serves with two engines."""
    rack = Rack.of(fleet, tmp_path_factory.mktemp("watched"), NAME, "2xRTX4090")
    rack.serves(serve_shutdown_timeout_s=1)
    yield rack
    fleet.remove(NAME)


@pytest.fixture
def heals(rack: Rack) -> Iterator[Callable[[str], None]]:
    """Do something to the host and its opposite after the test; the host is well before and after."""
    with contextlib.ExitStack() as after:

        def later(command: str) -> None:
            after.callback(rack.does, command)

        yield later
    assert rack.becomes(lambda: told(rack.world).host(NAME)["status"] != "not serving")


def test_a_host_that_is_well_is_good_and_as_it_was(rack: Rack) -> None:
    before = files(rack.host)
    found = told(rack.world)
    assert (found.status, found.found["good"]) == (0, True)
    host = found.host(NAME)
    assert (host["status"], found.states(NAME), found.codes(NAME)) == ("good", ["serving", "serving"], [])
    assert {each["gate"] for each in host["instances"]} == {"passed"}
    assert all(each["kv_tokens"] > 0 and each["up_s"] > 0 for each in host["instances"])
    assert (host["driver"]["module"], host["driver"]["library"], host["driver"]["nvml"]) == (NEW, NEW, "ok")
    assert set(host["driver"]["packages"]) == set(host["driver"]["held"])
    assert touched(before, files(rack.host)) == []


def test_without_a_probe_no_token_is_generated(rack: Rack) -> None:
    def counted() -> str:
        return rack.does("curl -s 127.0.0.1:8000/metrics | grep ^vllm:generation_tokens_total")

    before = counted()
    assert told(rack.world, "--no-probe").states(NAME) == ["up", "up"]
    assert counted() == before
    told(rack.world)
    assert counted() != before


def test_an_engine_that_is_killed_again_and_again_is_down_and_then_restarted(
    rack: Rack, heals: Callable[[str], None]
) -> None:
    heals("systemctl restart vllm@tiny-0")
    rack.does(f"kill -9 {rack.pid('tiny-0')}")
    assert rack.becomes(lambda: rack.unit("tiny-0", "ActiveState") != ["active"])
    found = told(rack.world)
    assert (found.status, found.states(NAME), found.codes(NAME)) == (2, ["down", "serving"], ["engine-died"])
    (drift,) = found.host(NAME)["drifts"]
    assert "status=9/KILL" in "\n".join(drift["evidence"])
    assert rack.becomes(lambda: told(rack.world).states(NAME) == ["serving", "serving"])
    found = told(rack.world)
    assert (found.status, found.host(NAME)["status"], found.codes(NAME)) == (2, "drift", ["engine-restarted"])
    assert found.host(NAME)["instances"][0]["restarts"] == 1


def test_a_unit_and_a_release_that_were_edited_by_hand_are_named(rack: Rack, heals: Callable[[str], None]) -> None:
    rack.does(f"cp -p {UNIT} /root/unit; cp -p {CURRENT}/instances/tiny-1.env /root/env")
    heals(f"cp -p /root/unit {UNIT}; cp -p /root/env {CURRENT}/instances/tiny-1.env; systemctl daemon-reload")
    rack.does(f"sed -i s/NoNewPrivileges=yes/NoNewPrivileges=no/ {UNIT}; echo A=1 >> {CURRENT}/instances/tiny-1.env")
    found = told(rack.world)
    assert (found.status, found.host(NAME)["status"]) == (2, "drift")
    assert found.codes(NAME) == ["release-edited", "unit-edited", "unit-stale", "unit-stale"]
    first, second, *_ = found.host(NAME)["drifts"]
    assert first["what"].endswith("were changed by hand: instances/tiny-1.env")
    assert second["what"].endswith(": vllm@.service")


def test_what_runs_is_held_against_what_is_deployed(rack: Rack, heals: Callable[[str], None]) -> None:
    place = f"{CURRENT}/instances/tiny-1.env"
    rack.does(f"cp -p {place} /root/env; sed -i s/RACKHAND_CONFIG=.*/RACKHAND_CONFIG=000000000000/ {place}")
    heals(f"cp -p /root/env {place}; systemctl restart vllm@tiny-1")
    rack.does("systemctl restart vllm@tiny-1")
    assert rack.becomes(lambda: told(rack.world).states(NAME) == ["serving", "serving"])
    assert told(rack.world).codes(NAME) == ["release-edited", "restart-owed"]


@pytest.mark.parametrize(
    ("command", "undo", "state", "code"),
    [
        ("systemctl disable vllm@tiny-0", "systemctl enable vllm@tiny-0", "serving", "not-enabled"),
        ("systemctl stop vllm@tiny-0", "systemctl start vllm@tiny-0", "down", "not-running"),
        (
            "mkdir -p /run/rackhand; echo drain > /run/rackhand/tiny-0.state",
            "rm /run/rackhand/tiny-0.state",
            "drained",
            "left-drained",
        ),
        (
            "systemctl set-property --runtime vllm@tiny-0 CPUWeight=50",
            "systemctl revert vllm@tiny-0",
            "serving",
            "unit-overridden",
        ),
        ("apt-mark unhold nvidia-driver-cuda", "apt-mark hold nvidia-driver-cuda", "serving", "package-unheld"),
    ],
)
def test_what_somebody_did_by_hand_is_named(
    rack: Rack, heals: Callable[[str], None], command: str, undo: str, state: str, code: str
) -> None:
    heals(undo)
    rack.does(command)
    found = told(rack.world)
    assert (found.status, found.states(NAME)[0]) == (2, state)
    assert code in found.codes(NAME)


def test_a_gpu_that_fell_off_is_named_with_the_instance_that_used_it(rack: Rack) -> None:
    root, healthy = Path(f"/proc/{rack.host.pid}/root"), personality.load("2xRTX4090")
    try:
        emulation.rewrite(root, healthy.with_gpu(1, lost=True))
        found = told(rack.world)
        assert found.status == 2
        missing = [drift for drift in found.host(NAME)["drifts"] if drift["code"] == "gpu-missing"]
        assert [drift["where"] for drift in missing] == [f"@lab/{NAME} vllm@tiny-1"]
    finally:
        emulation.rewrite(root, healthy)
    assert told(rack.world).status in (0, 2)


def test_a_library_that_is_not_the_modules_is_named_with_both_versions(rack: Rack) -> None:
    behind_our_back(rack.host, OLD)
    try:
        found = told(rack.world)
        assert found.status == 2
        drift = next(drift for drift in found.host(NAME)["drifts"] if drift["code"] == "nvml-mismatch")
        assert f"module {NEW}, library {OLD}" in drift["what"]
        assert drift["next_step"] == "run the deploy, which loads what is installed, or reboot the host"
    finally:
        behind_our_back(rack.host, NEW)


def test_a_host_that_is_away_and_one_without_a_release_are_told_beside_the_others(fleet: Fleet, rack: Rack) -> None:
    fleet.up("blank", "1xH100").wait_ssh()
    try:
        rack.world.inventory({NAME: rack.data, "blank": {"lab_personality": "1xH100"}})
        found = told(rack.world)
        assert (found.status, found.host("blank")["status"]) == (2, "empty")
        fleet.host("blank").power_cut()
        found = told(rack.world)
        assert (found.status, found.host("blank")["status"]) == (1, "unreachable")
        assert found.states(NAME) == ["serving", "serving"]
    finally:
        rack.world.inventory({NAME: rack.data})
        fleet.remove("blank")
