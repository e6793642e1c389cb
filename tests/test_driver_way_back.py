"""The machine that deploys sees a driver go back: it waits for the host's reboot, and says what became of it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rackhand import operations, undone
from rackhand.errors import RackhandError
from rackhand.order import Order
from rackhand.outcome import DriverBack, HostStatus
from rackhand.page.page import render
from rackhand.report_json import from_json, to_json
from rackhand.report_turns import back_words
from tests.paper import Deploy, PaperHost
from tests.upgrades import rolled_back, rollout

RESTORED = {"left": "595.91.07", "to": "580.126.20", "restored": True, "why": ""}
STAYS = {**RESTORED, "restored": False, "why": "after a reboot no driver is loaded"}
WORDS = "driver rolled back 595.91.07 → 580.126.20"


def result(driver: Mapping[str, Any], verdict: str = "restored") -> dict[str, Any]:
    told = {"code": "driver-not-loaded", "what": "no driver is loaded", "release": "a" * 12, "before": "a" * 12}
    return {**told, "verdict": verdict, "failed_gate": [], "driver": dict(driver)}


def test_what_failed_says_that_the_driver_went_back_and_the_release_serves() -> None:
    (error,) = undone.errors("gpu-1", result(RESTORED), {}, 60)
    assert error.code == "driver-not-loaded"
    assert error.next_step.endswith(f"{WORDS}; release {'a' * 12} was brought back and answered five tokens")


def test_a_driver_that_stays_is_an_error_of_its_own() -> None:
    first, second = undone.errors("gpu-1", result(STAYS), {}, 60)
    assert (first.code, second.code) == ("driver-not-restored", "driver-not-loaded")
    assert first.what == "driver not rolled back, 595.91.07 stays: after a reboot no driver is loaded"
    assert "rolled back 595" not in second.next_step


def test_report_table_and_page_say_it() -> None:
    host = rolled_back("gpu-1")
    assert host.turn
    host = replace(host, turn=replace(host.turn, driver=DriverBack(**RESTORED)))
    run = rollout([host])
    assert back_words(host).endswith(f"; {WORDS}")
    assert WORDS in render(run)
    assert to_json(run)["hosts"][0]["turn"]["driver"] == RESTORED
    assert from_json(to_json(run)).hosts[0].turn == host.turn


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Deploy]:
    yield Deploy(monkeypatch, tmp_path)
    operations.current_run.cache_clear()


@pytest.mark.parametrize("driver", [RESTORED, STAYS])
def test_the_report_names_the_driver_that_is_there(deploy: Deploy, driver: dict[str, Any]) -> None:
    host = PaperHost()
    deploy({"a": host}, "-y")
    host.turn_fails = {"code": "gate-tokens", "what": "no tokens", "driver": driver}
    told = deploy({"a": host}, "-y", serve_port=9000).host("a")
    assert (told.status, told.driver) == (HostStatus.ROLLED_BACK, driver["to" if driver["restored"] else "left"])
    assert ("driver-not-restored" in [each.code for each in told.problems]) is not driver["restored"]


class Line:
    """A host that tells of a driver's way back and is then away; what a call brings once it is gone is `cut`."""

    name = "gpu-1"

    def __init__(self, phase: str, cut: str) -> None:
        self.phase, self.cut, self.calls, self.lost = phase, cut, 0, 0

    def call(self, function: str, within_s: int = 0, **_: Any) -> Any:
        self.calls += 1
        events = [{"at": 0.0, "phase": self.phase, "instance": "", "detail": ""}] if self.calls == 1 else []
        if self.calls == 2:
            raise RackhandError(self.cut, "gone", self.name, "")
        over = {"verdict": "restored"} if self.calls == 3 else None
        return {"events": events, "offset": 1, "phase": self.phase, "open": over is None, "result": over}

    def reconnect(self) -> bool:
        self.lost += 1
        return self.lost > 2


def followed(line: Line, monkeypatch: pytest.MonkeyPatch, reboot_s: float) -> Mapping[str, Any] | None:
    monkeypatch.setattr("rackhand.order.RECONNECT_S", 0)
    monkeypatch.setattr("rackhand.order.RETRY_S", 0)
    return Order(line, "/", "r1", lambda _: None, 0.0, reboot_s).follow(lambda _: False, 60)


@pytest.mark.parametrize("phase", ["driver-back", "reboot"])
@pytest.mark.parametrize("cut", ["connection-lost", "timeout", "remote-crash"])
def test_a_host_that_reboots_by_itself_is_waited_for(phase: str, cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert followed(Line(phase, cut), monkeypatch, 60) == {"verdict": "restored"}


@pytest.mark.parametrize("cut", ["connection-lost", "remote-crash"])
def test_any_other_host_is_not(cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RackhandError) as raised:
        followed(Line("start", cut), monkeypatch, 60)
    assert raised.value.code == cut
