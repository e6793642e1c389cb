"""Put a stored set of driver packages onto the host: one transaction, every member named, without a network."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rackhand.remote import apt, command, dpkg, driver_files, driver_repair, driver_store, packager, rpm_facts
from rackhand.remote.driver_store import Set
from rackhand.remote.exchange import Exchange, Outcome
from rackhand.remote.problem import Problem

SYSTEMCTL_S = 120


def simulated(base: Path, name: str, timeout_s: int) -> None:
    """Have worked out what a stored set would do here; raises Problem when it would touch anything else."""
    found = driver_store.checked(base, name)
    wanted = _exchange(base, found, name)
    if not wanted.empty:
        refuse_surprises(packager.sets().simulate(wanted, timeout_s), found["family"])


def refuse_surprises(outcome: Outcome, family: Sequence[str]) -> None:
    """Refuse a transaction that would take away, or move back, what does not belong to the driver, or bring a kernel.

    dkms of EPEL wants headers that match a kernel: where those of no kernel here are on offer, dnf takes the newest.
    """
    there = {each.name: each.version for each in packager.here()}
    others = {
        name: version for name, version in outcome.comes.items() if not dpkg.belongs(name, family) and name in there
    }
    words = [f"remove {name}" for name in outcome.goes if not dpkg.belongs(name, family)]
    words += [f"install the kernel {name}" for name in outcome.comes if name.startswith(rpm_facts.KERNEL)]
    words += [
        f"move {name} back from {there[name]} to {version}"
        for name, version in others.items()
        if packager.older(version, there[name])
    ]
    if words:
        shown = ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")
        raise Problem(
            "driver-transaction",
            f"changing the driver would also {shown}",
            "do that on the host first if it is wanted, or resolve what forces it; nothing was changed",
            words,
        )


def put(base: Path, name: str, timeout_s: int, before: str = "") -> list[str]:
    """Make the host have exactly this set, held and pinned, whatever state its packages are in; return the members.

    `before` names the set that it replaces, whose holds end. Raises Problem. Doing it again is harmless, and finishes
    what was interrupted.
    """
    deadline = time.monotonic() + timeout_s
    found = driver_store.checked(base, name)
    debs = driver_store.debs(base, name, found)
    apt.wait_for_lock("driver-install", timeout_s)
    packager.mend(found["family"], debs.get)
    driver_repair.foreign(found["family"], _left_s(deadline))
    here = {each.name for each in driver_store.family(found)}
    replaced = here | set(driver_store.sets(base).get(before, {}).get("holds", ()))
    for path, text in driver_files.wanted(found).items():
        driver_files.place(path, text)
    _change(base, found, name, _left_s(deadline))
    _hold(found, replaced, _left_s(deadline))
    _enable(found["services"])
    return sorted(found["members"])


def _change(base: Path, found: Set, name: str, timeout_s: int) -> None:
    """Carry the transaction out; a failure of what is not the driver's is told apart."""
    wanted = _exchange(base, found, name)
    if wanted.empty:
        return
    failed: Problem | None = None
    try:
        packager.sets().carry_out(wanted, timeout_s)
    except Problem as error:
        failed = error
    off, strangers = driver_store.differences(found), driver_repair.strangers(found["family"])
    if strangers and not off:
        raise driver_repair.stuck(strangers, failed.evidence if failed else [])
    if failed:
        raise failed
    if off:
        what = f"the transaction is through, and the driver's packages are not those of the set: {', '.join(off[:5])}"
        raise Problem("driver-incomplete", what, f"see {command.LOGS}/driver-install.log on the host", off)


def _exchange(base: Path, found: Set, name: str) -> Exchange:
    """Return what has to come and go; it is empty where all is as it should be."""
    here, debs = packager.here(), driver_store.debs(base, name, found)
    there, members = {each.name: each for each in here}, found["members"]
    right = {each.name: each.version for each in here if each.whole and members.get(each.name) == each.version}
    wrong = [each for each in sorted(members) if each not in right]
    # Among the members of another version, what followed a kernel would not fit them.
    new = [debs[each] for each in wrong] if not driver_store.followed(found) >= {*wrong} else []
    # What came along once stays as it is now; only what is not there, or older than what the members need, comes again.
    new += [debs[each] for each, version in sorted(found["beside"].items()) if _needed(there.get(each), version)]
    kept = {*members, *(each.name for each in driver_store.added(found))}
    gone = [each.name for each in driver_store.family(found) if each.name not in kept]
    return Exchange(named=right, gone=gone, files=tuple(new))


def _needed(package: dpkg.Package | None, version: str) -> bool:
    return package is None or package.torn or packager.older(package.version, version)


def _hold(found: Set, replaced: set[str], timeout_s: int) -> None:
    """Put the set on hold; what it replaced is on hold no more, and what others put on hold stays so."""
    here = {each.name: each for each in packager.here()}
    held = {name for name, each in here.items() if each.want == "hold"}
    stays = {*found["holds"], *(each.name for each in driver_store.added(found))}
    versions: Mapping[str, str] = {name: here[name].version for name in sorted(stays) if name in here}
    packager.sets().hold(versions, sorted((held & replaced) - stays), timeout_s)


def _enable(services: Sequence[str]) -> None:
    if not services:
        return
    command_line = ["systemctl", "enable", *services]
    done = subprocess.run(command_line, capture_output=True, text=True, check=False, timeout=SYSTEMCTL_S)
    if done.returncode:
        names = ", ".join(services)
        said = done.stderr.strip().splitlines()[-3:]
        raise Problem("systemctl", f"systemctl enable {names} failed", "see 'systemctl status' on the host", said)


def _left_s(deadline: float) -> int:
    return max(1, int(deadline - time.monotonic()))
