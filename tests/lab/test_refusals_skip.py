"""With preflight_on_refusal = "skip" the good hosts go on; MIG shows itself once the driver is there; --dry plans."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab import emulation, personality
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import Result, World
from tests.lab.evidence import files, healthy, only_line, touched

pytestmark = pytest.mark.lab

GOOD, OLD, MIG = "skipgood", "skipold", "skipmig"
HOSTS = {
    GOOD: {"lab_personality": "1xH100"},
    OLD: {"lab_personality": "1xP100"},
    MIG: {"lab_personality": "1xH200-mig"},
}
BARE: dict[str, dict[str, Any]] = {
    "drybig": {"lab_personality": "8xH100-nvswitch", "gpu_count": 8, "gpu_model": "H100"},
    "drymixed": {"lab_personality": "4xmixed", "gpu_count": 4},
}
NO_UNITS = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "vllm@*"]


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("skips"))


@pytest.fixture(scope="module")
def skipped(world: World) -> Iterator[Result]:
    """Deploy to a good host, one that is refused, and one with slices that only NVML can show."""
    yield world.deploy(HOSTS, preflight_on_refusal="skip")
    for name in HOSTS:
        world.fleet.remove(name)


@pytest.fixture
def sliced(world: World, skipped: Result) -> Iterator[LabHost]:
    """Turn MIG on at the good host, whose driver is there by now."""
    host = world.fleet.host(GOOD)
    emulation.rewrite(Path(f"/proc/{host.pid}/root"), personality.load("1xH200-mig"))
    yield host
    emulation.rewrite(Path(f"/proc/{host.pid}/root"), personality.load("1xH100"))


def test_a_refused_host_is_skipped_and_the_good_one_becomes_healthy(skipped: Result, world: World) -> None:
    assert skipped.status == 1
    assert healthy(skipped, GOOD)
    assert skipped.host(OLD)["status"] == "refused"
    assert skipped.changed(OLD) == []
    assert "[gpu-too-old]" in only_line(skipped, OLD)
    old = world.fleet.host(OLD)
    assert old.run(["getent", "passwd", "vllm"]).returncode != 0
    assert old.run(NO_UNITS).stdout == ""


def test_a_bare_host_with_slices_gets_its_driver_and_no_server(skipped: Result, world: World) -> None:
    assert skipped.host(MIG)["status"] == "failed"
    line = only_line(skipped, MIG)
    assert "MIG is on for 0000:18:00.0" in line
    assert "[mig]" in line
    assert 'gpu_mig = "off"' in line
    assert skipped.changed(MIG)[-1] == "GPUs | persistence, fabric, nodes"
    assert world.fleet.host(MIG).run(NO_UNITS).stdout == ""


def test_slices_on_a_host_with_a_driver_are_refused_before_any_change(
    skipped: Result, world: World, sliced: LabHost
) -> None:
    before = files(sliced)
    result = world.deploy({GOOD: HOSTS[GOOD]})
    assert result.status == 1
    assert result.host(GOOD)["status"] == "refused"
    assert "[mig]" in only_line(result, GOOD)
    assert touched(before, files(sliced)) == []


def test_a_good_host_is_unchanged_beside_a_skipped_one_and_the_status_still_says_so(
    skipped: Result, world: World
) -> None:
    result = world.deploy({GOOD: HOSTS[GOOD], OLD: HOSTS[OLD]}, preflight_on_refusal="skip")
    assert result.status == 1
    assert result.host(GOOD)["status"] == "unchanged"
    assert healthy(result, GOOD)
    assert result.host(OLD)["status"] == "refused"


@pytest.fixture
def bare(world: World) -> Iterator[dict[str, LabHost]]:
    """Boot two bare hosts with many GPUs."""
    hosts = {name: world.fleet.up(name, data["lab_personality"]) for name, data in BARE.items()}
    for host in hosts.values():
        host.wait_ssh()
        host.run(["systemctl", "is-system-running", "--wait"])
    yield hosts
    for name in hosts:
        world.fleet.remove(name)


def test_dry_plans_switched_and_mixed_gpus_in_words_and_changes_nothing(world: World, bare: dict[str, LabHost]) -> None:
    before = {name: files(host) for name, host in bare.items()}
    result = world.deploy(BARE, "--dry")
    assert result.status == 0, result.printed
    assert "2 hosts planned, nothing changed" in result.printed
    assert not result.report
    big, mixed = (_plan(result, name) for name in BARE)
    assert "8× H100 SXM5 80GB" in big  # noqa: RUF001
    assert "driver 580.126.20 with the fabric manager for its NVSwitches: install, pin and hold; load it" in big
    assert [f"127.0.0.1:{8000 + number}" in big for number in range(9)] == [True] * 8 + [False]
    for words in ("1× A10: 1 instance on one", "2× L4: 2 instances, one GPU each", "1× T4: 1 instance on one"):  # noqa: RUF001
        assert words in mixed
    assert "fabric manager" not in mixed
    assert "vllm@tiny-2 on 127.0.0.1:8002, GPU 0000:b1:00.0: to be started" in mixed
    for name, host in bare.items():
        assert touched(before[name], files(host)) == []


def _plan(result: Result, name: str) -> str:
    """Return the lines that tell one host's plan."""
    _, _, after = result.printed.partition(f"@lab/{name}: planned\n")
    return after.partition("\n\n")[0]
