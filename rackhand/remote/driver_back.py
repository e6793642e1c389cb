"""Put the driver back that worked before, from the packages that are stored here, and load it.

The program of a host's turn may not touch the system; it has this done by a unit of its own, which goes on where that
program is killed. A reboot may come in between: whoever is started then begins anew, and finds all but the end done.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rackhand.remote import (
    command,
    driver,
    driver_apply,
    driver_boot,
    driver_journal,
    driver_load,
    gpu,
    gpu_holders,
    state,
    turn_files,
)
from rackhand.remote.problem import Problem

# How long a host may take from the wish to reboot until this program is gone, in seconds.
LEAVING_S = 600
FIRST = "see 'dkms status' and 'dmesg | grep -i nvidia' on the host"


def main() -> None:
    """Undo the driver's unproven change, within the limits of the open order."""
    base = Path(sys.argv[0]).absolute().parent.parent
    order = turn_files.order(base) or turn_files.DEFAULTS
    try:
        undo(base, order["run"], {**turn_files.DEFAULTS["driver"], **order["driver"]})
    except (Problem, OSError, subprocess.SubprocessError) as error:
        with contextlib.suppress(OSError):
            driver_journal.mark(base, driver_journal.BEGUN, why=str(error))
        sys.exit(str(error))


def undo(base: Path, run: str, limits: Mapping[str, Any]) -> None:
    """Make the host have, and run, the set from before the change; raises Problem. Nothing to undo is no error."""
    _unheld(base, limits["services"])
    name = _put(base=base, run=run, timeout_s=limits["timeout_s"])
    if name:
        _load(base, driver_journal.version(name), limits)
        driver_journal.mark(base, driver_journal.DONE, why="")


def _unheld(base: Path, services: Sequence[str]) -> None:
    """Raise Problem `gpu-held` while somebody else keeps the module loaded that would have to go with its packages.

    Nothing serves on a library that the module does not belong to; the driver that works stays then.
    """
    name, loaded = driver_journal.owed(base), _loaded()
    if name and loaded and loaded != driver_journal.version(name):
        gpu_holders.refuse([f"{service}.service" for service in services])


@command.alone("driver")
def _put(base: Path, run: str, timeout_s: int) -> str:
    """Put the set on and return its name; empty where nothing is to be undone."""
    name = driver_journal.owed(base)
    if name:
        replaced = driver_journal.change(base)["to"]
        driver_journal.go_back(base, run)
        driver_apply.put(base, name, timeout_s, replaced)
    return name


def _load(base: Path, version: str, limits: Mapping[str, Any]) -> None:
    """Load what is installed: by an exchange of modules, or else by a reboot, from which this does not return."""
    if _loaded() == version:
        return
    reload = {"services": limits["services"], "modules": limits["modules"], "timeout_s": limits["timeout_s"]}
    why = driver_load.renew(**reload)["why"]
    if _loaded() == version:
        return
    what = f"{_loaded() or 'no driver'} is loaded, not {version} ({why or 'its modules were exchanged'})"
    if driver_journal.change(base)["rebooted"]:
        raise Problem("driver-not-loaded", f"after a reboot {what}", FIRST)
    if not limits["reboot"]:
        raise Problem("reboot-needed", f"{what}, and driver_reboot_allowed is False", "reboot the host")
    _reboot(base, version, limits["timeout_s"])


def _loaded() -> str:
    return str(gpu.driver()["loaded"] or "")


def _reboot(base: Path, version: str, timeout_s: int) -> None:
    """Reboot the host into a kernel that has the driver; never returns."""
    coming = driver_boot.ready(version=version, nouveau=False, timeout_s=timeout_s)
    if coming["module"] != version:
        what = f"the kernel {coming['release']} boots next and has no module of {version}"
        raise Problem("module-missing", what, FIRST)
    driver.settle(timeout_s)
    driver_journal.mark(base, driver_journal.BEGUN, rebooted=True)
    turn_files.tell(base, "reboot")
    subprocess.run(["systemctl", "reboot"], capture_output=True, check=False, timeout=state.ANSWER_S)
    time.sleep(LEAVING_S)
    raise Problem("reboot", f"the host did not reboot within {LEAVING_S} s", "look at its console")
