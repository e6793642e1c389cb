"""Get a driver's packages onto the host, and have their transaction worked out, before anything of it is changed."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rackhand.remote import (
    apt,
    dpkg,
    driver_apply,
    driver_files,
    driver_journal,
    driver_repair,
    driver_source,
    driver_store,
    packager,
)
from rackhand.remote.exchange import Exchange
from rackhand.remote.problem import Problem

DRIVER = re.compile(r"\d{3}\.\d+")
BRANCH = re.compile(r"linux-(?:modules|objects)-nvidia-(\d{3})-")
Wish = Mapping[str, Any]


def stage(base: Path, wish: Wish, timeout_s: int) -> dict[str, str]:
    """Have the wished set and the one that is installed in the store; return their names, and why the latter is not.

    `wish` is {repository_url, key_url, fingerprint, packages, beside, headers, needs, family, services, version};
    `headers` come as far as they are on offer, `needs` are in the wished set. Where both sets are stored nobody is
    asked for anything. Raises Problem; nothing of the driver has changed then, nor its pin.
    """
    deadline = time.monotonic() + timeout_s
    wish = {**wish, "family": [*wish["family"], *driver_files.MODULES]}
    apt.wait_for_lock("driver-stage", timeout_s)
    _mend(base, wish["family"])
    driver_repair.foreign_alone(wish["family"], _left_s(deadline))
    around = _around()
    name = driver_journal.find(base, wish["version"], wish["needs"])
    if not name:
        with driver_files.as_before_on_failure(driver_files.key_file(), driver_files.source_file()):
            driver_source.follow(wish["repository_url"], wish["key_url"], wish["fingerprint"], _left_s(deadline))
            name = _wished(base, {**wish, **_around()}, deadline)
    here, why = _present(base, {**wish, **around}, _left_s(deadline))
    driver_store.renew(base, name)
    driver_apply.simulated(base, name, _left_s(deadline))
    return {"set": name, "here": here, "why": why}


def _around() -> dict[str, str]:
    """Return where the package manager takes the driver from now."""
    return {"source": driver_files.read(driver_files.source_file()), "key": driver_files.read(driver_files.key_file())}


def _mend(base: Path, family: Sequence[str]) -> None:
    """Put in order what was cut off, with the files of whatever the package manager was in the middle of."""
    to = driver_journal.change(base)["to"]
    found = driver_store.sets(base).get(to)
    stored = driver_store.debs(base, to, found) if found else {}
    packager.mend(family, lambda name: stored.get(name) or driver_repair.archived(name))


def _wished(base: Path, wish: Wish, deadline: float) -> str:
    """Store the set that the package manager chooses for the wished version."""
    family, version, url = wish["family"], wish["version"], wish["repository_url"]
    here = {each.name: each.version for each in packager.here() if dpkg.belongs(each.name, family)}
    named = driver_source.wanted(wish["packages"], sorted(here), version, url, _left_s(deadline))
    gone = [name for name in here if name not in named and _of_another(name, here[name], version)]
    there = {each.name for each in packager.here()}
    asked = (*wish["beside"], *packager.sets().offers(wish["headers"], _left_s(deadline)))
    beside = [name for name in asked if name not in there or dpkg.belongs(name, family)]
    pin = driver_files.pin(family, version)
    wanted = Exchange(named=named, gone=gone, beside=tuple(beside), offline=False, pin=pin)
    outcome = packager.sets().simulate(wanted, _left_s(deadline))
    driver_apply.refuse_surprises(outcome, family)
    comes, goes = outcome
    members = {name: entry for name, entry in here.items() if name not in goes}
    members.update({name: entry for name, entry in comes.items() if dpkg.belongs(name, family)})
    others = {name: entry for name, entry in comes.items() if name not in members}
    folder = driver_store.draft(base)
    _collect(base, folder, {**members, **others}, _left_s(deadline))
    return driver_store.keep(base, folder, _content(wish, version, members, others))


def _of_another(name: str, entry: str, version: str) -> bool:
    """Say whether a package goes with the driver that it is of; ready-built modules carry the versions of kernels."""
    branch = BRANCH.match(name)
    return branch[1] != version.partition(".")[0] if branch else DRIVER.match(dpkg.upstream(entry)) is not None


def _present(base: Path, wish: Wish, timeout_s: int) -> tuple[str, str]:
    """Store what is installed, too; return the set's name, or why there is no way back to it."""
    known = driver_store.installed(base)
    members = {each.name: each.version for each in packager.here() if dpkg.belongs(each.name, wish["family"])}
    if known or not members:
        return known, ""
    versions = sorted({dpkg.upstream(entry) for entry in members.values() if DRIVER.match(dpkg.upstream(entry))})
    if len(versions) != 1 or any(not each.whole for each in packager.here() if each.name in members):
        return "", f"its packages are of several versions or unfinished ({', '.join(versions) or 'none is whole'})"
    folder = driver_store.draft(base)
    try:
        _collect(base, folder, members, timeout_s)
    except Problem as problem:
        said = problem.evidence[-1] if problem.evidence else problem.what
        return "", f"{versions[0]} cannot be fetched any more ({said})"
    return driver_store.keep(base, folder, _content(wish, versions[0], members, {})), ""


def _content(wish: Wish, version: str, members: Mapping[str, str], beside: Mapping[str, str]) -> dict[str, Any]:
    """Return what set.json says of a set beside its files."""
    installed = [package.name for package in packager.here()]
    return {
        "version": version,
        "members": dict(members),
        "beside": dict(beside),
        "family": list(wish["family"]),
        "holds": driver_files.holds(sorted(members), [*installed, *beside]),
        "pin": driver_files.pin(wish["family"], version),
        "source": wish["source"],
        "key": wish["key"],
        "services": list(wish["services"]),
    }


def _collect(base: Path, folder: Path, wanted: Mapping[str, str], timeout_s: int) -> None:
    """Get the file of every package, from the store, from the repositories, or from what apt had fetched before."""
    missing = {}
    for name, entry in wanted.items():
        stored = next(driver_store.copies(base, name, entry), None)
        if stored:
            driver_store.adopt(stored, folder)
        else:
            missing[name] = entry
    if missing:
        packager.sets().download(folder, missing, timeout_s)


def _left_s(deadline: float) -> int:
    return max(1, int(deadline - time.monotonic()))
