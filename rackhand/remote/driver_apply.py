"""Put a stored set of driver packages onto the host: one transaction, every member named, without a network."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from rackhand.remote import apt, command, dpkg, driver_files, driver_repair, driver_store
from rackhand.remote.driver_store import Set
from rackhand.remote.problem import Problem

# Downgrades are meant; holds are of our own making; what apt would recommend is no part of a set; and what apt is to
# install also is the solution of what was left half done.
FLAGS = ("--fix-broken", "--allow-downgrades", "--allow-change-held-packages", "--no-install-recommends")
# Without sources apt can only choose from what is installed and what it is given, and it asks nobody for anything.
OFFLINE = (
    *("-o", "Dir::Etc::SourceList=/dev/null", "-o", "Dir::Etc::SourceParts=/dev/null"),
    *("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="),
)
PLANNED = re.compile(r"^Inst (\S+)(?: \[(\S+)\])? \((\S+)")
REMOVED = re.compile(r"^(?:Remv|Purg) (\S+)")
SYSTEMCTL_S = 120


def simulated(base: Path, name: str, timeout_s: int) -> None:
    """Let apt work out what a stored set would do here; raises Problem when it would touch anything else."""
    found = driver_store.checked(base, name)
    wanted = _transaction(base, found, name)
    if wanted:
        apt.get(["--simulate", *OFFLINE, *FLAGS, "install", *wanted], "driver-simulate", timeout_s)
        refuse_surprises(command.read("driver-simulate"), found["family"])


def planned(simulation: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return what a simulated transaction would install (package: version), and what it would take away."""
    comes = {line[1]: line[3] for line in map(PLANNED.match, simulation) if line}
    return comes, [line[1] for line in map(REMOVED.match, simulation) if line]


def refuse_surprises(simulation: Sequence[str], family: Sequence[str]) -> None:
    """Refuse a transaction that would take away, or move back, what does not belong to the driver."""
    comes, goes = planned(simulation)
    there = {each.name: each.version for each in dpkg.here()}
    others = {name: version for name, version in comes.items() if not dpkg.belongs(name, family) and name in there}
    words = [f"remove {name}" for name in goes if not dpkg.belongs(name, family)]
    words += [
        f"move {name} back from {there[name]} to {version}"
        for name, version in others.items()
        if dpkg.older(version, there[name])
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
    driver_repair.mend(found["family"], debs.get)
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
    wanted = _transaction(base, found, name)
    if not wanted:
        return
    failed: Problem | None = None
    try:
        apt.get([*OFFLINE, *FLAGS, "install", *wanted], "driver-install", timeout_s)
    except Problem as error:
        failed = error
    off, strangers = driver_store.differences(found), driver_repair.strangers(found["family"])
    if strangers and not off:
        raise driver_repair.stuck(strangers, failed.evidence if failed else [])
    if failed:
        raise failed
    if off:
        what = f"apt is through, and the driver's packages are not those of the set: {', '.join(off[:5])}"
        raise Problem("driver-incomplete", what, f"see {command.LOGS}/driver-install.log on the host", off)


def _transaction(base: Path, found: Set, name: str) -> list[str]:
    """Return what apt is to install and, with a minus behind it, to remove; nothing where all is as it should be."""
    here, debs = dpkg.here(), driver_store.debs(base, name, found)
    there, members = {each.name: each for each in here}, found["members"]
    right = [each for each in here if each.whole and members.get(each.name) == each.version]
    known = {each.name for each in right}
    new = [str(debs[each]) for each in sorted(members) if each not in known]
    # What came along once stays as it is now; only what is not there, or older than what the members need, comes again.
    new += [str(debs[each]) for each, version in sorted(found["beside"].items()) if _needed(there.get(each), version)]
    kept = {*members, *(each.name for each in driver_store.added(found))}
    gone = [f"{each.name}-" for each in driver_store.family(found) if each.name not in kept]
    named = [f"{each.name}={each.version}" for each in right]
    return [*named, *new, *gone] if new or gone else []


def _needed(package: dpkg.Package | None, version: str) -> bool:
    return package is None or package.torn or dpkg.older(package.version, version)


def _hold(found: Set, replaced: set[str], timeout_s: int) -> None:
    """Put the set on hold; what it replaced is on hold no more, and what others put on hold stays so."""
    held = {each.name for each in dpkg.here() if each.want == "hold"}
    old = sorted((held & replaced) - set(found["holds"]))
    for verb, names in (("unhold", old), ("hold", sorted(found["holds"]))):
        if names:
            apt.mark(verb, names, "driver-install", timeout_s)


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
