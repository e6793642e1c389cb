"""`rackhand status`: every host is asked once; 0 all serve as deployed, 2 a drift, 1 a host that could not be asked."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rackhand import cli, reach
from rackhand.commands.status_json import to_json
from rackhand.commands.status_words import MOST_HOSTS, sentence, text
from rackhand.errors import RackhandError
from rackhand.outcome import Problem
from rackhand.status.hosts import HostStanding
from rackhand.terminal import Terminal
from tests.shelves import digest
from tests.standings import NOW, answer, down, instance, standing
from tests.test_fit_words import matches_golden

GONE = RackhandError("unreachable", "no SSH connection", "rack9", "check the host")
WIDE = Terminal(width=120)


class Host:
    """A session with a host on paper; it remembers what it was asked."""

    def __init__(self, name: str, changes: Mapping[str, Any] | None = None) -> None:
        self.name, self.changes = name, changes
        self.host = SimpleNamespace(data=SimpleNamespace(dict=lambda: {"model_name": "tiny"}), groups=["prod"])
        self.asked: list[tuple[str, Any]] = []

    def call(self, function: str, within_s: int = 0, **words: Any) -> Any:
        self.asked.append((function, words["probe_s"]))
        return answer(self.changes)


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return the command, run over hosts on paper; an error stands for a host that gives no answer."""

    def run(*hosts: Host | RackhandError, words: tuple[str, ...] = ()) -> tuple[int, str]:
        def ask(inventory: str, patterns: list[str], question: Callable[[Any], Any]) -> dict[str, Any]:
            return {
                host.name if isinstance(host, Host) else host.where: question(host) if isinstance(host, Host) else host
                for host in hosts
            }

        monkeypatch.setattr(reach, "ask", ask)
        return cli.main(["status", "inventory/prod.py", *words]), capsys.readouterr().out

    return run


def test_a_fleet_that_is_well_is_status_0_and_each_host_asked_once(status: Callable[..., tuple[int, str]]) -> None:
    host = Host("rack1")
    code, out = status(host)
    assert (code, host.asked) == (0, [("status.status", 30)])
    assert out.endswith("1 host: 1 good. 1 of 1 instances answered five tokens.\n")


def test_without_a_probe_no_instance_is_asked_for_tokens(status: Callable[..., tuple[int, str]]) -> None:
    host = Host("rack1", {"instances.0.gate": None})
    code, out = status(host, words=("--no-probe",))
    assert (code, host.asked) == (0, [("status.status", None)])
    assert out.endswith("1 host: 1 good.\n")


def test_a_drift_is_status_2_and_one_line(status: Callable[..., tuple[int, str]]) -> None:
    code, out = status(Host("rack1"), Host("rack2", {"packages.held": []}))
    assert code == 2
    assert "rack2: packages of the driver are not on hold: libcuda1 [package-unheld] → run the deploy again" in out
    assert out.index("rack2") < out.index("rack1")


def test_a_note_is_no_drift(status: Callable[..., tuple[int, str]]) -> None:
    code, out = status(Host("rack1", {"reboot.required": True}))
    assert code == 0
    assert "note: rack1: a reboot is due: the distribution asks for it [reboot-pending]" in out


def test_a_host_that_cannot_be_asked_is_status_1_whatever_the_others_say(
    status: Callable[..., tuple[int, str]],
) -> None:
    code, out = status(Host("rack1", {"packages.held": []}), GONE)
    assert code == 1
    assert "rack9: no SSH connection [unreachable]" in out
    assert "2 hosts: 1 drift, 1 unreachable." in out


def test_an_inventory_that_is_not_there_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "inventory/prd.py"]) == 1
    assert "did you mean inventory/prod.py?" in capsys.readouterr().err


def fleet() -> tuple[HostStanding, ...]:
    """Return a host of each kind that there is."""
    two = [instance(), instance("tiny-1", kv_tokens=None)]
    to = digest("a", 2)
    order = {"run": "r1", "kind": "switch", "purpose": "deploy", "to": to, "created": NOW - 90, "alive": True}
    return (
        standing("rack1"),
        standing("rack2", {"instances": [down()], "release.edited": ["vllm@.service"]}),
        standing("rack3", {"release": None, "instances": [], "driver.loaded": None}),
        standing("rack4", {"order": order, "instances.0.state": "drain"}),
        standing("rack5", {"instances": two, "packages.held": []}, engine_version="0.33.0"),
        standing("rack6", {"packages.held": []}),
        HostStanding(name="rack7", problem=Problem.of(GONE)),
    )


def test_a_fleet_reads_as_in_its_golden_file() -> None:
    matches_golden("status-120", text(fleet(), WIDE, everyone=False))
    matches_golden("status-80-ascii", text(fleet(), Terminal(width=80, unicode=False), everyone=False))


def test_the_same_drift_of_many_hosts_is_told_once() -> None:
    hosts = [standing(f"rack{number}", {"packages.held": []}) for number in range(1, 21)]
    said = text(hosts, WIDE, everyone=True)
    assert said.count("[package-unheld]") == 1
    assert "rack8 and 12 more" in " ".join(said.split())


def test_of_a_large_fleet_only_what_is_not_well_is_listed() -> None:
    well = [standing(f"rack{number:03}") for number in range(500)]
    hosts = [*well, standing("sick", {"instances": [down()]})]
    said = text(hosts, WIDE, everyone=False)
    assert "rack001" not in said
    assert f"500 hosts good with release {digest('a', 1)}: vLLM 0.32.0, tiny (--all lists them)" in said
    assert len(said.splitlines()) < 20
    assert "rack001" in text(hosts, WIDE, everyone=True)
    assert "rack001" in text(well[:MOST_HOSTS], WIDE, everyone=False)


def test_what_all_hosts_share_is_said_once_above_the_table() -> None:
    first, *_ = text([standing("rack1"), standing("rack2")], WIDE, everyone=False).splitlines()
    assert first == f"release {digest('a', 1)} · vLLM 0.32.0 · model tiny · driver 580.126.20"


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    said = text(fleet(), Terminal(width=width), everyone=False)
    assert [line for line in said.splitlines() if len(line) > width and "│" not in line] == []


def test_nobody_asked_is_said(status: Callable[..., tuple[int, str]]) -> None:
    code, out = status()
    assert (code, out) == (2, "No host was asked.\n")
    assert sentence(fleet()).startswith("7 hosts: 1 good, ")


def leaves(value: Any, path: str = "") -> set[str]:
    """Name every field of a JSON document as the reference does: hosts[].release.id."""
    if isinstance(value, dict) and value and not path.endswith("packages"):
        return {found for name, each in value.items() for found in leaves(each, f"{path}.{name}".lstrip("."))}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {found for each in value for found in leaves(each, f"{path}[]")}
    return {path}


def test_the_json_has_the_fields_of_the_reference() -> None:
    last = {"run": "r1", "verdict": "restored", "code": "gate-tokens", "what": "4 of 5", "at": NOW}
    lease = {"owner": "ann", "run": "r1", "purpose": "deploy", "since": NOW, "expires": NOW + 9}
    found = to_json([*fleet(), standing("rack8", {"lease": lease, "last": last})])
    json.dumps(found)
    assert (found["schema"], found["good"]) == ("rackhand.status/1", False)
    assert [host["status"] for host in found["hosts"]][:4] == ["good", "not serving", "empty", "not serving"]
    page = (Path(__file__).parent.parent / "docs/reference/status.md").read_text().partition("## JSON")[2]
    listed = set(re.findall(r"^\| `([\w.\[\]]+)` \|", page, re.MULTILINE))
    problems = re.compile(r"\.(?:drifts|notes|problems)\[\]\.")
    said = {path for path in leaves(found) if not problems.search(path)}
    assert sorted(said - listed) == []
    assert sorted(path for path in listed - said if not any(each.startswith(path) for each in said)) == []
