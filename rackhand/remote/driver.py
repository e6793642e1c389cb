"""What the controller asks for about the NVIDIA driver's packages (Debian, Ubuntu): stage, put on, settle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rackhand.remote import apt, command, driver_apply, driver_fetch, driver_journal, driver_repair, driver_store


@command.alone("driver")
def stage(root: str, wish: dict[str, Any], timeout_s: int) -> dict[str, str]:
    """Store the wished packages and those that are installed, and simulate their exchange: {set, here, why}.

    `wish` and the errors are those of driver_fetch.stage; `why` says why there is no way back to what is installed.
    """
    return driver_fetch.stage(Path(root), wish, timeout_s)


@command.alone("driver")
def put(root: str, run: str, version: str, packages: list[str], timeout_s: int) -> list[str]:
    """Make the host have the stored set of this version, held and pinned; return its packages. Raises Problem."""
    base = Path(root)
    name = driver_journal.find(base, version, packages)
    before = driver_journal.change(base)
    there = before["to"] == name and driver_journal.settled(before)
    if there and not driver_store.differences(driver_store.checked(base, name)):
        return driver_apply.put(base, name, timeout_s)
    if not driver_repair.unfinished():
        driver_apply.simulated(base, name, timeout_s)
    driver_journal.begin(base, run, name)
    members = driver_apply.put(base, name, timeout_s, driver_journal.change(base)["from"])
    driver_journal.mark(base, driver_journal.DONE)
    return members


def settle(timeout_s: int) -> None:
    """Return once no package manager works on this host and none left anything half done: it may be rebooted then."""
    driver_repair.finish(apt.wait_for_lock("reboot", timeout_s))
