"""Sets of driver packages in a store on this host, so that the driver can change in both directions without a network.

driver/<version>-<digest>/ holds the files (.deb, .rpm) of one set and set.json, which says what the set is:
{schema, version, members: {package: version}, beside: {package: version}, files: {file: {sha256, bytes}}, family,
 holds, pin, source, key, services}. `beside` is what the members need and is none of them (headers, a compiler).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rackhand.remote import dpkg, driver_files, files, packager, state
from rackhand.remote.problem import Problem

FOLDER = "driver"
RECORD = "set.json"
SCHEMA = "rackhand.driver-set/1"
READY_BUILT = re.compile(r"linux-modules-nvidia-(\d+(?:-server)?(?:-open)?)-")
# What follows a kind of kernel is not named after a release.
KIND = re.compile(READY_BUILT.pattern + r"[a-z]")
SIGNATURES = "linux-signatures-nvidia"
IMAGE = re.compile(r"linux-image-(?:unsigned-)?(.+)")
Set = Mapping[str, Any]


def place(base: Path, name: str) -> Path:
    """Return the directory of a set."""
    return base / FOLDER / name


def sets(base: Path) -> dict[str, Set]:
    """Return every set that is complete, by its name."""
    found = {path.parent.name: state.read_json(path) for path in sorted((base / FOLDER).glob(f"[!.]*/{RECORD}"))}
    return {name: each for name, each in found.items() if _complete(place(base, name), each)}


def _complete(folder: Path, found: Set) -> bool:
    """Compare sizes alone: contents are compared before they are used."""
    listed = found.get("files")
    if found.get("schema") != SCHEMA or not isinstance(listed, dict):
        return False
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == each["bytes"] for name, each in listed.items()
    )


def checked(base: Path, name: str) -> Set:
    """Return a set whose files are what they were when they came; raises Problem."""
    found = sets(base).get(name)
    listed = found["files"] if found else {}
    wrong = [file for file, each in listed.items() if files.sha256(place(base, name) / file) != each["sha256"]]
    if found is None or wrong:
        shown = f": {', '.join(wrong[:3])} changed" if wrong else ""
        raise Problem(
            "driver-set-damaged",
            f"the stored driver packages {name or '(none)'} are not complete{shown}",
            f"delete {place(base, name)} on the host, then run again: they are fetched anew",
        )
    return found


def fitting(base: Path, version: str, packages: Sequence[str]) -> list[str]:
    """Name the complete sets of a driver version that have all these packages, the newest first."""
    found = [
        name
        for name, each in sets(base).items()
        if each["version"] == version and set(packages) <= {*each["members"], *each["beside"]}
    ]
    return sorted(found, key=lambda name: (place(base, name) / RECORD).stat().st_mtime, reverse=True)


def renew(base: Path, name: str) -> None:
    """Let a set be the newest: what was installed when it was staged was stored after it."""
    (place(base, name) / RECORD).touch()


def draft(base: Path) -> Path:
    """Return an empty directory to collect a set in; what an interrupted run left there goes."""
    folder = base / FOLDER / ".draft.rackhand-new"
    files.remove_tree(folder)
    folder.mkdir(parents=True)
    return folder


def keep(base: Path, folder: Path, content: Set) -> str:
    """Turn a directory of packages into a stored set, in one rename, and return its name.

    The name is the driver's version and what is in the set: the same packages are the same set.
    """
    inside = json.dumps([dict(content["members"]), dict(content["beside"])], sort_keys=True)
    name = f"{content['version']}-{hashlib.sha256(inside.encode()).hexdigest()[:12]}"
    listed = {path.name: _settled(path) for path in sorted(folder.iterdir())}
    files.write(folder / RECORD, json.dumps({"schema": SCHEMA, **content, "files": listed}, indent=1, sort_keys=True))
    files.settle(folder)
    final = place(base, name)
    files.remove_tree(final)
    folder.rename(final)
    files.settle(final.parent)
    return name


def _settled(path: Path) -> dict[str, Any]:
    """Describe a file once it is on the disk for good: a set is used after a power cut, of all times."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return {"sha256": files.sha256(path), "bytes": path.stat().st_size}


def copies(base: Path, package: str, version: str) -> Iterator[Path]:
    """Yield files of a package that are in the store already."""
    for name in sets(base):
        yield from place(base, name).glob(packager.sets().pattern(package, version))


def adopt(file: Path, folder: Path) -> None:
    """Put a file into a set, without a second copy where the disk allows."""
    target = folder / file.name
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def debs(base: Path, name: str, found: Set) -> dict[str, Path]:
    """Return the files of a set by their packages."""
    return {packager.sets().package_of(file): place(base, name) / file for file in found["files"]}


def installed(base: Path) -> str:
    """Name the set that is what is installed here, no more and no less; empty where none is."""
    return next((name for name, each in sets(base).items() if not differences(each) and not added(each)), "")


def differences(found: Set) -> list[str]:
    """Return in words which of the driver's packages are not as a set has them."""
    packages, more = family(found), {*followed(found), *(each.name for each in added(found))}
    there = {package.name: package for package in packages}
    off = [f"{name} is missing" for name in found["members"] if name not in there]
    off += [f"{each.name} is {each.status}" for each in packages if not each.whole]
    off += [
        f"{each.name} is {each.version}"
        for each in packages
        if each.whole and found["members"].get(each.name) != each.version and each.name not in more
    ]
    return off + (["dpkg was cut off"] if dpkg.interrupted() else [])


def family(found: Set) -> list[dpkg.Package]:
    """Return what is here of the driver, of whichever version."""
    return [each for each in packager.here() if dpkg.belongs(each.name, found["family"])]


def added(found: Set) -> list[dpkg.Package]:
    """Return what somebody installed beside a set and is in nobody's way: in the same version, or for a kernel here."""
    extra = [each for each in family(found) if each.whole and each.name not in found["members"]]
    modules = _ready_built(found)
    return [each for each in extra if each.name in modules or dpkg.upstream(each.version) == found["version"]]


def followed(found: Set) -> set[str]:
    """Name members that moved on with a kernel: they bring the ready-built modules of whichever is the newest."""
    kinds = {name: version for name, version in found["members"].items() if KIND.match(name)}
    there = [each for each in packager.here() if each.whole and each.name in kinds] if kinds else []
    return {each.name for each in there if packager.older(kinds[each.name], each.version)}


def _ready_built(found: Set) -> set[str]:
    """Name the packages that the distribution builds of a set's branch for the kernels that are here."""
    kinds = {built[1] for name in found["members"] if (built := READY_BUILT.match(name))}
    if not kinds:
        return set()
    kernels = [image[1] for each in packager.here() if (image := IMAGE.match(each.name))]
    stems = [f"linux-{part}-nvidia-{kind}" for part in ("modules", "objects") for kind in kinds]
    return {f"{stem}-{kernel}" for stem in (*stems, SIGNATURES) for kernel in kernels}


def loose(found: Set) -> list[str]:
    """Return in words what does not keep a set where it is: holds and files that are gone or differ."""
    held = {package.name for package in packager.here() if package.want == "hold"}
    off = [f"{name} is not on hold" for name in found["holds"] if name not in held]
    return off + [
        f"{path} differs" for path, text in driver_files.wanted(found).items() if driver_files.read(path) != text
    ]
