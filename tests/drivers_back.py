"""A driver that was changed in a host's turn, and the unit that puts it back, played."""

import json

from rackhand.remote import driver_journal
from tests.turn_host import Killed, TurnHost

OLD, NEW = "580.126.20-aaaaaaaaaaaa", "595.91.07-bbbbbbbbbbbb"
LEFT, TO = "595.91.07", "580.126.20"


class Rebooted(Killed):
    """Somebody rebooted the host."""


def changed(host: TurnHost, before: str = OLD, phase: str = driver_journal.DONE) -> None:
    """Let the driver be another one, on which nothing has proved itself."""
    path = host.root / driver_journal.CHANGE
    path.parent.mkdir(exist_ok=True)
    change = {"run": "r1", "from": before, "to": NEW, "previous": "", "direction": "forward", "phase": phase}
    path.write_text(json.dumps(change))


def by_reboot(host: TurnHost) -> None:
    """Put the driver back as the unit does: packages, a reboot, and then it is loaded."""
    assert not host.running(), "something runs on a driver that is taken away"
    driver_journal.go_back(host.root, host.order()["run"])
    if not driver_journal.change(host.root)["rebooted"]:
        driver_journal.mark(host.root, driver_journal.BEGUN, rebooted=True)
        raise Rebooted
    driver_journal.mark(host.root, driver_journal.DONE)


def in_vain(host: TurnHost) -> None:
    """Fail as the unit does."""
    driver_journal.go_back(host.root, host.order()["run"])
    driver_journal.mark(host.root, driver_journal.BEGUN, why="after a reboot no driver is loaded")
