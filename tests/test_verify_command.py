"""`rackhand verify`: every host is asked once; 0 nothing blocks, 2 a finding does, 1 a host could not be asked."""

import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from rackhand import cli, reach
from rackhand.commands.verify_json import to_json
from rackhand.commands.verify_words import MOST_HOSTS, sentence, text
from rackhand.errors import RackhandError
from rackhand.health.host import HostHealth, examine
from rackhand.outcome import Problem
from rackhand.terminal import Terminal
from tests.ailments import H100, address, host, lines
from tests.error_codes import ROOT
from tests.test_fit_words import matches_golden
from tests.test_status_command import leaves

GONE = RackhandError("unreachable", "no SSH connection", "rack9", "check the host")
WIDE = Terminal(width=120)
XID = "NVRM: Xid (PCI:0000:11:00): {}, pid=4711, name=python3, Ch 00000008"


class Host:
    """A session with a host on paper; it remembers what it was asked."""

    def __init__(self, name: str, answer: dict[str, Any] | None = None, *groups: str, **data: Any) -> None:
        self.name, self.answer, self.commands = name, answer or host(), 0
        self.host = SimpleNamespace(data=SimpleNamespace(dict=lambda: data), groups=groups)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, function: str, within_s: int = 0, **words: Any) -> Any:
        self.asked.append((function, words))
        return self.answer


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return the command, run over hosts on paper; an error stands for a host that gives no answer."""

    def run(*hosts: Host | RackhandError, words: tuple[str, ...] = ()) -> tuple[int, str]:
        def ask(inventory: str, patterns: list[str], question: Callable[[Any], Any]) -> dict[str, Any]:
            return {
                each.name if isinstance(each, Host) else each.where: question(each) if isinstance(each, Host) else each
                for each in hosts
            }

        monkeypatch.setattr(reach, "ask", ask)
        return cli.main(["verify", "inventory/prod.py", *words]), capsys.readouterr().out

    return run


def sick() -> dict[str, Any]:
    answer = host()
    answer["kernel"] = lines(XID.format(79))
    return answer


def warned() -> dict[str, Any]:
    answer = host()
    answer["nvml"]["gpus"][0]["clock_events"] = 0x80
    return answer


def test_a_fleet_that_is_well_is_status_0_and_each_host_asked_once(verify: Callable[..., tuple[int, str]]) -> None:
    rack = Host("rack1")
    code, out = verify(rack)
    assert (code, [function for function, _ in rack.asked]) == (0, ["health.look"])
    assert out.endswith("1 host: 1 healthy.\n")


def test_what_blocks_is_status_2_and_comes_first(verify: Callable[..., tuple[int, str]]) -> None:
    code, out = verify(Host("rack1"), Host("rack2", sick()))
    assert code == 2
    assert f"fatal: rack2 GPU {address(1)}: the GPU has fallen off the bus: Xid 79 [xid-79] → reboot the host" in out
    assert f"  │ {sick()['kernel'][0]}" in out
    assert out.index("rack2") < out.index("rack1")
    assert out.endswith("2 hosts: 1 healthy, 1 unhealthy. Nothing may begin to serve on 1 of them.\n")


def test_a_warning_is_told_and_is_status_0(verify: Callable[..., tuple[int, str]]) -> None:
    code, out = verify(Host("rack1", warned()))
    assert code == 0
    assert "[power-brake]" in out
    assert "1 host: 1 degraded." in out


def test_the_settings_of_each_host_say_what_blocks_there(verify: Callable[..., tuple[int, str]]) -> None:
    code, out = verify(Host("rack1", sick(), health_ignore=["xid-79"]))
    assert code == 0
    assert "fatal, ignored: rack1" in out
    code, out = verify(Host("rack1", warned(), health_block=["power-brake"]))
    assert code == 2
    assert "warning, blocks: rack1" in out


def test_dcgm_is_asked_unless_the_settings_say_otherwise(verify: Callable[..., tuple[int, str]]) -> None:
    asked, spared = Host("rack1"), Host("rack2", health_dcgm=False)
    verify(asked, spared)
    assert [bool(each.asked[0][1]["dcgm_s"]) for each in (asked, spared)] == [True, False]


def test_the_inventory_promises_gpus(verify: Callable[..., tuple[int, str]]) -> None:
    code, out = verify(Host("rack1", gpu_count=4, model_name="tiny"))
    assert code == 2
    assert "[gpu-count]" in out


def test_a_router_without_gpus_lacks_nothing(verify: Callable[..., tuple[int, str]]) -> None:
    code, out = verify(Host("door", host(0), "routers"))
    assert code == 0
    assert "1 host: 1 no GPU." in out
    assert verify(Host("door", host(0)))[0] == 2
    assert verify(Host("door", sick(), "routers"))[0] == 2


def test_a_host_that_cannot_be_asked_is_status_1_whatever_the_others_say(
    verify: Callable[..., tuple[int, str]],
) -> None:
    code, out = verify(Host("rack1", sick()), GONE)
    assert code == 1
    assert "rack9: no SSH connection [unreachable]" in out
    assert "2 hosts: 1 unhealthy, 1 unreachable." in out


def test_nobody_asked_is_said(verify: Callable[..., tuple[int, str]]) -> None:
    assert verify() == (1, "No host was asked.\n")


def health(name: str, answer: dict[str, Any], **data: Any) -> HostHealth:
    return examine(Host(name, answer), data, router=False)  # type: ignore[arg-type]


def fleet() -> tuple[HostHealth, ...]:
    """Return a host of each kind that there is."""
    board, cold = host(8, H100, switched=True), host(8, H100, switched=True)
    for gpu in cold["nvml"]["gpus"]:
        gpu["fabric"] = {"state": 1, "status": 0, "clique": "0/0", "health": 0}
    cold["units"][1]["active"] = "failed"
    cold["cuda"] = {"state": "failed", "code": 802, "name": "CUDA_ERROR_SYSTEM_NOT_READY", "devices": 0}
    return (
        health("rack1", board),
        health("rack2", cold),
        health("rack3", warned()),
        health("rack4", sick()),
        health("rack5", sick(), health_ignore=["xid-79"]),
        HostHealth(name="rack7", problem=Problem.of(GONE)),
        HostHealth(name="router", bare=True),
    )


def test_a_fleet_reads_as_in_its_golden_file() -> None:
    matches_golden("verify-120", text(fleet(), WIDE, everyone=False))
    matches_golden("verify-80-ascii", text(fleet(), Terminal(width=80, unicode=False), everyone=False))


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    said = text(fleet(), Terminal(width=width), everyone=False)
    assert [line for line in said.splitlines() if len(line) > width and "│" not in line] == []


def test_the_same_on_all_gpus_of_a_host_is_told_once_with_their_number() -> None:
    said = " ".join(text(fleet(), WIDE, everyone=False).split())
    assert said.count("[fabric-incomplete]") == 1
    assert "error: rack2 (8 GPUs): a GPU has not joined the NVLink fabric: not started" in said


def test_of_a_large_fleet_only_what_is_not_well_is_listed() -> None:
    well = [health(f"rack{number:03}", host()) for number in range(MOST_HOSTS)]
    said = text([*well, health("sick", sick())], WIDE, everyone=False)
    assert "rack001" not in said
    assert f"{MOST_HOSTS} hosts healthy (--all lists them)" in said
    assert "rack001" in text([*well, health("sick", sick())], WIDE, everyone=True)
    assert sentence(well) == f"{MOST_HOSTS} hosts: {MOST_HOSTS} healthy."


def test_the_json_has_the_fields_of_the_reference() -> None:
    found = to_json(fleet())
    json.dumps(found)
    assert (found["schema"], found["good"]) == ("rackhand.verify/1", False)
    assert [each["status"] for each in found["hosts"]][-2:] == ["unreachable", "no GPU"]
    page = (ROOT / "docs/reference/verify.md").read_text().partition("## JSON")[2]
    listed = set(re.findall(r"^\| `([\w.\[\]]+)` \|", page, re.MULTILINE))
    said = {path for path in leaves(found) if not path.startswith("hosts[].driver.fabricmanager.")}
    assert sorted(said - listed) == []
    assert sorted(path for path in listed - said if not any(each.startswith(path) for each in said)) == []
