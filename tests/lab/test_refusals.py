"""Worlds that preflight refuses: each with a line that says why, before anything changes on any host of the run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import Result, World
from tests.lab.evidence import Files, files, only_line, reasons, touched

pytestmark = pytest.mark.lab

GOOD = "refgood"
H100 = {"lab_personality": "1xH100", "gpu_count": 1, "gpu_model": "H100"}
ODD: Mapping[str, Mapping[str, Any]] = {
    "refnone": {"lab_personality": "none", "gpu_count": 1},
    "reffewer": {**H100, "gpu_count": 2},
    "refother": {**H100, "lab_personality": "1xL4"},
    "refold": {"lab_personality": "1xP100"},
    "reffedora": H100,
    "reftrixie": {**H100, "driver_branch": "580"},
    "refdisk": H100,
    "refport": H100,
    "refmany": {"lab_personality": "2xRTX4090", "gpu_count": 4, "gpu_model": "H100"},
}
OTHER_SYSTEMS = {
    "reffedora": 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=41\nPRETTY_NAME="Fedora Linux 41 (Server Edition)"\n',
    "reftrixie": 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
}
SMALL_DISK = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/opt/rackhand"]
SQUATTER = ["systemd-run", "--unit=squatter", "python3", "-m", "http.server", "8000"]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """One run over all of these hosts, and their files before and after it."""

    result: Result
    hosts: Mapping[str, LabHost]
    before: Mapping[str, Files]
    after: Mapping[str, Files]


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("refusals"))


@pytest.fixture(scope="module")
def refused(world: World) -> Iterator[Refused]:
    """Deploy once to one good host and to one host for each thing that can be wrong."""
    wished = {GOOD: H100, **ODD}
    hosts = {name: world.fleet.up(name, data["lab_personality"]) for name, data in wished.items()}
    for host in hosts.values():
        host.wait_ssh()
        host.run(["systemctl", "is-system-running", "--wait"])
    _break(hosts)
    before = {name: files(host) for name, host in hosts.items()}
    result = world.deploy(wished)
    yield Refused(result=result, hosts=hosts, before=before, after={name: files(host) for name, host in hosts.items()})
    for host in hosts.values():
        world.fleet.remove(host.name)


def _break(hosts: Mapping[str, LabHost]) -> None:
    for name, text in OTHER_SYSTEMS.items():
        hosts[name].write("/etc/os-release", text)
    for name in ("refdisk", "refmany"):
        hosts[name].run(["mkdir", "-p", "/opt/rackhand"])
        assert hosts[name].run(SMALL_DISK).returncode == 0
    assert hosts["refport"].run(SQUATTER).returncode == 0


def test_one_refusal_stops_the_run_before_anything_changes_anywhere(refused: Refused) -> None:
    result = refused.result
    assert result.status == 1
    assert f"nothing was changed on any host: {len(ODD)} of {len(ODD) + 1} refused" in result.printed
    assert result.host(GOOD)["status"] == "not run"
    assert {result.host(name)["status"] for name in ODD} == {"refused"}
    for name in refused.hosts:
        assert result.changed(name) == []
        assert touched(refused.before[name], refused.after[name]) == []
    # The practice fleet itself brings the cache.
    assert [path.name for path in (refused.hosts[GOOD].rootfs / "opt/rackhand").iterdir()] == ["cache"]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("refnone", "no-gpu", ("no NVIDIA GPU here", "the inventory promises 1", "lspci")),
        ("reffewer", "gpu-count", ("H100 SXM5 80GB here", "the inventory promises 2 GPUs", "lspci", "gpu_count")),
        ("refother", "gpu-model", ("L4 here", "the inventory promises H100", "gpu_model")),
        ("refold", "gpu-too-old", ("P100", "0000:3b:00.0", "compute capability 6.0", "needs 7.5")),
        ("reffedora", "unsupported-distribution", ("fedora 41 is not supported", "driver_manage = False")),
        ("reftrixie", "unsupported-branch", ("branch 580 cannot be installed on Debian 13", "possible: 595")),
    ],
)
def test_a_host_that_is_not_what_the_inventory_says_is_refused(
    refused: Refused, name: str, code: str, words: tuple[str, ...]
) -> None:
    line = only_line(refused.result, name)
    assert f"[{code}]" in line
    assert [word for word in words if word not in line] == []


def test_a_disk_that_is_too_small_is_told_with_numbers_before_any_download(refused: Refused) -> None:
    line = only_line(refused.result, "refdisk")
    assert "[disk-too-small]" in line
    assert "712 MiB are needed below /opt/rackhand (200 environment, 0 weights, 512 reserve)" in line
    assert "64 MiB are free" in line
    assert "free 648 MiB" in line


def test_a_taken_port_is_told_with_command_process_and_unit(refused: Refused) -> None:
    pid = refused.hosts["refport"].run(["systemctl", "show", "-P", "MainPID", "squatter"]).stdout.strip()
    line = only_line(refused.result, "refport")
    assert f"port 8000 is taken by python3 (pid {pid}, squatter.service) [port-taken]" in line
    assert "serve_port" in line


def test_several_reasons_are_all_listed_at_once(refused: Refused) -> None:
    lines = reasons(refused.result, "refmany")
    codes = [problem["code"] for problem in refused.result.host("refmany")["problems"]]
    assert codes == ["disk-too-small", "gpu-count", "gpu-model"]
    assert all(f"[{code}]" in line for code, line in zip(codes, lines, strict=True))
