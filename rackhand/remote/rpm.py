"""What rpm knows of packages on this host, in the same words as dpkg.py; what dnf keeps where it is. Read-only."""

from __future__ import annotations

import platform
import re
from fnmatch import fnmatchcase
from itertools import zip_longest
from pathlib import Path

from rackhand.remote.dpkg import Package, output

LOCKS = Path("/etc/dnf/plugins/versionlock.list")
FORMAT = "%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\n"
# Several versions of these are there at a time: each is a package of its own, as the others write it into their names.
SIDE_BY_SIDE = re.compile(r"kernel(-(core|modules|modules-core|modules-extra|devel))?$")
PART = re.compile(r"[0-9]+|[a-zA-Z]+|~|\^")


def here(root: str = "/") -> list[Package]:
    """List what is installed, of this machine's own architecture.

    Where a transaction was cut off, a package is there twice: the newer one is complete, and is called `duplicate`.
    `root` is another system's.
    """
    locks = _locks()
    found: dict[str, Package] = {}
    for each in _rows(root):
        before = found.get(each.name)
        if before:
            newest = before if older(each.version, before.version) else each
            each = newest._replace(status="duplicate")
        found[each.name] = each
    return [each._replace(want="hold") if locked(each, locks) else each for each in found.values()]


def leftovers() -> list[Package]:
    """List the older versions of what is there twice."""
    newest = {each.name: each.version for each in here()}
    return [each for each in _rows("/") if newest[each.name] != each.version]


def _rows(root: str) -> list[Package]:
    own = (platform.machine(), "noarch")
    rows = [line.split("\t") for line in output("rpm", *_database(root), "-qa", "--qf", FORMAT).splitlines()]
    told = [(name, evr(epoch, version, release), arch) for name, epoch, version, release, arch in rows if arch in own]
    return [Package(named(name, entry, arch), arch, "install", "installed", "ok", entry) for name, entry, arch in told]


def _database(root: str) -> list[str]:
    return [] if root == "/" else ["--dbpath", str(Path(root, "var/lib/rpm"))]


def evr(epoch: str, version: str, release: str) -> str:
    """Return a package version as people write it: an epoch of zero goes unsaid."""
    return f"{'' if epoch in ('0', '(none)') else f'{epoch}:'}{version}-{release}"


def named(name: str, entry: str, architecture: str) -> str:
    """Return the name by which a package is told from every other: kernels' have their release in it."""
    return f"{name}-{entry}.{architecture}" if SIDE_BY_SIDE.match(name) else name


def _locks() -> list[str]:
    try:
        lines = LOCKS.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line.strip() for line in lines if line.strip() and not line.startswith(("#", "!"))]


def locked(package: Package, locks: list[str]) -> bool:
    """Say whether one of dnf's version locks keeps a package at this very version."""
    entry = full(package.version)
    names = [f"{package.name}-{text}.{package.architecture}" for text in (entry, bare(entry))]
    return any(fnmatchcase(name, lock) for name in names for lock in locks)


def full(entry: str) -> str:
    """Return a package version with its epoch, also one of zero."""
    return entry if ":" in entry else f"0:{entry}"


def bare(entry: str) -> str:
    """Return a package version without its epoch."""
    return entry.partition(":")[2] or entry


def older(version: str, other: str) -> bool:
    """Say whether a package version is older than another, as rpm compares them."""
    pairs = zip(_fields(version), _fields(other))
    return next((order < 0 for mine, its in pairs if (order := _compared(mine, its))), False)


def _fields(version: str) -> tuple[str, str, str]:
    epoch, _, rest = version.rpartition(":")
    number, _, release = rest.rpartition("-")
    return epoch or "0", number, release


def _compared(mine: str, its: str) -> int:
    """Compare part by part: ~ is before everything, even the end, and ^ behind the end and before all else."""
    for one, two in zip_longest(PART.findall(mine), PART.findall(its), fillvalue=""):
        if one != two and (order := _rank(one) > _rank(two)) != (_rank(one) < _rank(two)):
            return 1 if order else -1
    return 0


def _rank(part: str) -> tuple[int, int, str]:
    """Return what a part of a version sorts by: the end is the empty part, and numbers are newer than words."""
    kind = {"~": 0, "": 1, "^": 2}.get(part, 4 if part.isdigit() else 3)
    return kind, int(part) if part.isdigit() else 0, part if kind == 3 else ""
