"""The driver goes back with its release when a host's turn fails after the driver was changed, and stays otherwise."""

from collections.abc import Callable

import pytest

from rackhand.remote import driver_journal, driver_store, gpu, turn_driver
from tests.drivers_back import LEFT, NEW, OLD, TO, Rebooted, by_reboot, changed, in_vain
from tests.turn_host import TurnHost, host

__all__ = ["host"]
A = ["GPU-a"]


def held(host: TurnHost, after: Callable[[TurnHost], object], stored: str = OLD) -> None:
    """Hold a host that serves, change its driver, and let the controller do something then."""

    def drive(host: TurnHost) -> None:
        if host.phases()[-1:] == ["held"]:
            host.on_tick = lambda _: None
            changed(host, before=stored)
            after(host)

    host.has("old", A)
    host.serves("old")
    host.has("new", A)
    host.on_tick = drive
    host.begins("", kind="hold", hold_s=900)


def finish(host: TurnHost) -> None:
    for _ in range(3):
        killed = host.works()
        if killed is None:
            return
        assert isinstance(killed, Rebooted)
        host.boots()
    raise AssertionError(host.phases())


def test_a_release_that_fails_its_gate_takes_its_driver_back(host: TurnHost) -> None:
    host.breaks, host.on_driver = {"new": "mute"}, by_reboot
    held(host, lambda host: host.begins("new"))
    finish(host)
    result = host.result()
    assert (result["verdict"], result["release"]) == ("restored", "old")
    assert result["driver"] == {"left": LEFT, "to": TO, "restored": True, "why": ""}
    assert host.ledger()[-1]["driver"] == result["driver"]
    assert host.phases().count("driver-back") == 2, "once before the reboot and once after it"
    assert host.in_service() == {"tiny-0"}
    change = driver_journal.change(host.root)
    assert (driver_journal.good(change), driver_journal.settled(change)) == (OLD, True)


def test_an_accepted_release_keeps_its_driver(host: TurnHost) -> None:
    held(host, lambda host: host.begins("new"))
    finish(host)
    assert (host.result()["verdict"], host.result()["driver"]) == ("accepted", None)
    assert driver_journal.good(driver_journal.change(host.root)) == NEW


def test_the_host_does_it_alone_when_the_controller_is_gone(host: TurnHost) -> None:
    def vanish(host: TurnHost) -> None:
        host.listens = host.confirms = False

    host.on_driver = by_reboot
    held(host, vanish)
    finish(host)
    result = host.result()
    assert (result["code"], result["verdict"], result["driver"]["restored"]) == ("hold-over", "restored", True)
    assert host.in_service() == {"tiny-0"}


def test_a_power_cut_while_the_driver_is_changed_leads_back(host: TurnHost) -> None:
    def cut(host: TurnHost) -> None:
        host.now += 10_000
        changed(host, phase=driver_journal.BEGUN)
        raise Rebooted

    host.on_driver = by_reboot
    held(host, cut)
    finish(host)
    assert (host.result()["verdict"], host.result()["driver"]["restored"]) == ("restored", True)
    assert host.in_service() == {"tiny-0"}


def test_a_driver_that_cannot_go_back_is_said_and_the_release_is_tried_all_the_same(host: TurnHost) -> None:
    host.breaks, host.on_driver = {"new": "mute"}, in_vain
    held(host, lambda host: host.begins("new"))
    finish(host)
    result = host.result()
    assert result["verdict"] == "restored"
    assert result["driver"] == {
        "left": LEFT, "to": TO, "restored": False, "why": "after a reboot no driver is loaded",
    }  # fmt: skip
    assert turn_driver.changed(host.root), "the next run has to settle it"


def test_without_a_stored_set_the_driver_stays_and_nothing_is_stopped_for_it(host: TurnHost) -> None:
    host.breaks = {"new": "mute"}
    held(host, lambda host: host.begins("new"), stored="")
    finish(host)
    assert host.result()["driver"] == {"left": LEFT, "to": "", "restored": False, "why": turn_driver.NO_SET}
    assert "driver-back" not in host.phases()
    assert host.in_service() == {"tiny-0"}


@pytest.mark.parametrize("kind", ["hold", "switch"])
def test_where_no_driver_was_changed_none_goes_back(host: TurnHost, kind: str) -> None:
    host.breaks = {"new": "mute"}
    host.has("old", A)
    host.serves("old")
    host.has("new", A)
    host.begins("new" if kind == "switch" else "", kind=kind, hold_s=10)
    finish(host)
    assert (host.result()["verdict"], host.result()["driver"]) == ("restored", None)
    assert not (host.root / driver_journal.CHANGE).exists()


def test_a_change_that_was_only_announced_is_taken_back_without_a_word(
    host: TurnHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_store, "installed", lambda _: OLD)
    monkeypatch.setattr(gpu, "driver", lambda: {"loaded": TO})
    host.breaks = {"new": "mute"}
    held(host, lambda host: host.begins("new"))
    finish(host)
    assert (host.result()["verdict"], host.result()["driver"]) == ("restored", None)
    assert not turn_driver.changed(host.root)


def test_servers_that_do_not_run_come_back_on_their_own_driver(host: TurnHost) -> None:
    host.breaks, host.on_driver = {"new": "hangs"}, by_reboot
    host.has("old", A)
    host.serves("old")
    host.systemctl(["systemctl", "stop", "vllm@tiny-0.service"])
    host.has("new", A)
    changed(host)
    host.begins("new")
    finish(host)
    assert host.result()["driver"]["restored"]
    assert host.in_service() == {"tiny-0"}
