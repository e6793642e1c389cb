"""The program that switches a host may be killed before any of its deeds, with or without a reboot: nothing is lost.

Every scenario is played once to count the deeds, and then once for each of them, with the program killed right before.
"""

from dataclasses import dataclass
from functools import partial

import pytest

from rackhand.remote import drain, driver_journal, state
from tests.drivers_back import Rebooted, by_reboot, changed
from tests.turn_host import START_S, TurnHost, host

__all__ = ["host"]
A, B = ["GPU-a"], ["GPU-b"]
AB = [*A, *B]
# After a crash the program is started at most so often, by systemd or by a boot.
STARTS = 4


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What lies on a host and what is asked of it; `ends` is how that may end when the program is killed somewhere."""

    releases: dict[str, tuple[list[str], ...]]
    serves: str
    ends: frozenset[str]
    to: str = "new"
    breaks: tuple[tuple[str, str], ...] = ()
    hold: bool = False
    driver: bool = False

    def play(self, host: TurnHost) -> None:
        """Set the stage and hand the order over; the program has not begun yet."""
        host.renew()
        for name, gpus in self.releases.items():
            host.has(name, *gpus)
        if self.serves:
            host.serves(self.serves)
        host.breaks = dict(self.breaks)
        if self.hold:
            host.on_tick, host.on_driver = partial(_drive, self.driver), by_reboot
            host.begins("", kind="hold", hold_s=300)
        else:
            host.begins(self.to)


def _drive(driver: bool, host: TurnHost) -> None:
    """Play the controller that changes a driver: reboot the held host, then ask for the switch."""
    if host.phases()[-1:] == ["held"] and host.order()["kind"] == "hold":
        if host.link("rebooted"):
            host.on_tick = lambda _: None
            host.begins("new")
            return
        (host.root / "rebooted").symlink_to("once")
        if driver:
            changed(host)
        raise Rebooted


BACK = frozenset({"accepted", "restored", "unchanged"})
SCENARIOS = {
    "upgrade": Scenario(releases={"old": (A,), "new": (A,)}, serves="old", ends=BACK),
    "two, one at a time": Scenario(releases={"old": (A, B), "new": (A, B)}, serves="old", ends=BACK),
    "two become one": Scenario(releases={"old": (A, B), "new": (AB,)}, serves="old", ends=BACK),
    "one becomes two": Scenario(releases={"old": (AB,), "new": (A, B)}, serves="old", ends=BACK),
    "first deploy": Scenario(releases={"new": (A, B)}, serves="", ends=frozenset({"accepted", "stopped", "unchanged"})),
    "failing gate": Scenario(
        releases={"old": (A,), "new": (A,)}, serves="old", breaks=(("new", "mute"),), ends=BACK - {"accepted"}
    ),
    "engine dies": Scenario(
        releases={"old": (A, B), "new": (A, B)}, serves="old", breaks=(("new", "dies"),), ends=BACK - {"accepted"}
    ),
    "first deploy, failing gate": Scenario(
        releases={"new": (A,)}, serves="", breaks=(("new", "mute"),), ends=frozenset({"stopped", "unchanged"})
    ),
    "failing gate, failing way back": Scenario(
        releases={"old": (A,), "new": (A,)}, serves="old", breaks=(("new", "mute"), ("old", "dies")),
        ends=frozenset({"lost", "unchanged"}),
    ),
    "hold, reboot, switch": Scenario(releases={"old": (A, B), "new": (A, B)}, serves="old", ends=BACK, hold=True),
    "driver, failing gate": Scenario(
        releases={"old": (A, B), "new": (A, B)}, serves="old", breaks=(("new", "mute"),), ends=BACK - {"accepted"},
        hold=True, driver=True,
    ),
    "driver": Scenario(releases={"old": (A,), "new": (A,)}, serves="old", ends=BACK, hold=True, driver=True),
    "repair": Scenario(releases={"old": (A, B)}, serves="old", to="old", ends=BACK),
}  # fmt: skip


def finish(host: TurnHost, reboots: bool) -> None:
    """Let the program run to its end, started again by systemd or by the next boot."""
    for _ in range(STARTS):
        killed = host.works()
        if killed is None:
            return
        if reboots or isinstance(killed, Rebooted):
            host.boots()
            if not host.started:
                return
    raise AssertionError(f"the program did not come to an end: {host.phases()}")


def wrongs(host: TurnHost, scenario: Scenario) -> list[str]:
    """Name what is not as it must be when a turn is over."""
    result, verdict = host.result(), host.result()["verdict"]
    current = host.link("current")
    there = host.manifest(current)["instances"] if current else []
    configs = {item["name"]: item["config"] for item in there}
    passed = state.read_json(host.root / "releases" / current / state.VERDICT).get("verdict") == "passed"
    ledger = [(line["run"], line["verdict"]) for line in host.ledger()]
    checks = {
        f"ended as {verdict}: {result['what']}": verdict in scenario.ends,
        "an order is open": not (host.root / state.ORDER).exists(),
        "traces of an order are left": sorted(path.name for path in (host.root / "turn").iterdir()) in TRACES,
        "the program starts at boot": not (host.wants / state.PROGRAM).is_symlink(),
        f"current is {current}, which did not pass": not current or passed,
        f"the result says {result['release']}, current is {current}": result["release"] == current,
        f"the ledger says {ledger}": ledger[-1:] == [("r1", verdict)] and ledger.count(("r1", verdict)) == 1,
        f"{host.enabled()} start at boot": host.enabled() == set(configs),
    }
    change = driver_journal.change(host.root)
    if scenario.driver and change["phase"]:
        how = (change["direction"], change["phase"])
        checks[f"the driver is {how}"] = how == (("forward", "healthy") if verdict == "accepted" else ("back", "done"))
    broken = dict(scenario.breaks).get(current)
    if verdict != "lost" and not broken:
        units = {name: host.engines[name].text for name in host.running()}
        checks[f"{host.running()} run, {current} is current"] = host.running() == configs
        checks[f"in service are {host.in_service()}"] = host.in_service() == set(configs)
        checks[f"started by {units}"] = set(units.values()) <= {f"unit of {current}"}
    elif verdict == "lost":
        checks["routers are sent to nobody"] = all(drain.said(name) == drain.DRAIN for name in configs)
        checks["the release that worked is current"] = current == scenario.serves
    return [what for what, fine in checks.items() if not fine]


TRACES = (["events.jsonl", "result.json"], ["result.json"])


def played(host: TurnHost, scenario: Scenario, kill_at: int, reboots: bool, alive: bool) -> list[str]:
    """Play a scenario with the program killed before one deed; `alive` says whether the controller outlives it."""
    scenario.play(host)
    host.kill_at = kill_at
    if not alive:
        host.on_kill = _fall_silent
    finish(host, reboots)
    host.sleep(START_S)  # what a boot started may still be loading
    return [
        f"killed before deed {kill_at} ({host.killed_before}), reboot {reboots}: {each}"
        for each in wrongs(host, scenario)
    ]


def _fall_silent(host: TurnHost) -> None:
    host.confirms = host.listens = False


@pytest.mark.parametrize("alive", [True, False], ids=["watched", "alone"])
@pytest.mark.parametrize("reboots", [False, True], ids=["killed", "power-lost"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_is_cut_off_ends_well(host: TurnHost, name: str, reboots: bool, alive: bool) -> None:
    scenario = SCENARIOS[name]
    assert played(host, scenario, -1, False, True) == []
    deeds, found = host.effects, []
    assert deeds > 30
    for kill_at in range(deeds):
        found += played(host, scenario, kill_at, reboots, alive)
    assert found == []
