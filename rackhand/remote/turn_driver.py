"""The driver on the way back: with the release that worked before comes the driver that it ran on."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

from rackhand.remote import drain, driver_journal, driver_store, gpu, occupancy
from rackhand.remote.bring import retire
from rackhand.remote.problem import Problem
from rackhand.remote.stopping import Stopping
from rackhand.remote.turn_log import Log

UNIT = "rackhand-driver.service"
NO_SET = "what was installed before is not stored on the host"
# What the unit may take beside the time that packages may take: its wait for others, the way into a reboot, in seconds.
MARGIN_S = 900


def changed(base: Path) -> bool:
    """Tell whether the driver was changed and nothing has proved itself on it."""
    return not driver_journal.settled(driver_journal.change(base))


def put_back(base: Path, log: Log) -> None:
    """Undo the unproven change of the driver, and remember how that ended; a reboot may end this program.

    Nothing serves meanwhile. Where it cannot be done, the way back goes on with the driver that there is.
    """
    found = driver_journal.change(base)
    if driver_journal.settled(found):
        return
    if found["from"] and _untouched(base, found["from"]):
        driver_journal.go_back(base, log.order["run"])
        driver_journal.mark(base, driver_journal.DONE)
        return
    told = {"left": driver_journal.version(found["to"]), "to": driver_journal.version(found["from"])}
    why = _undo(base, log, f"{told['left']} → {told['to']}") if found["from"] else NO_SET
    log.recall(driver={**told, "restored": not why, "why": why})
    if why:
        log.tell("failed", detail=f"driver-not-restored: {why}")


def _untouched(base: Path, name: str) -> bool:
    """Tell whether the change was only announced: the set from before is installed, and loaded."""
    return driver_store.installed(base) == name and gpu.driver()["loaded"] == driver_journal.version(name)


def _undo(base: Path, log: Log, words: str) -> str:
    """Let the unit do it; return why that did not work, empty where it did."""
    log.tell("driver-back", detail=words)
    names = sorted(occupancy.here())
    with contextlib.suppress(Problem):
        retire(Stopping(log.order, log), base, names)
    for name in names:
        drain.say(name, drain.DRAIN)
    limit_s = log.order["driver"]["timeout_s"] + MARGIN_S
    try:
        done = subprocess.run(["systemctl", "start", UNIT], capture_output=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"it was not done within {limit_s} s"
    after: dict[str, Any] = driver_journal.change(base)
    if driver_journal.settled(after):
        return ""
    return str(after["why"]) or f"{UNIT} ended with status {done.returncode}; see its journal"
