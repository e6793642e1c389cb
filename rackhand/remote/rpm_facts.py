"""What a driver would be put onto where rpm and dnf rule: packages, kernels, headers on offer. Read-only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rackhand.remote import rpm
from rackhand.remote.dpkg import output

CACHE = "var/cache/dnf"
KERNEL, HEADERS = "kernel-core-", "kernel-devel-"


def told(root: str, kernels: Sequence[dict[str, Any]], driver: Callable[[str], bool]) -> dict[str, Any]:
    """Return what rpm and dnf know of a driver, and mark those of the kernels that are rpm's; `driver` tells names."""
    here = {each.name: each.version for each in rpm.here(root)}
    for kernel in kernels:
        kernel["package"] = f"{KERNEL}{kernel['release']}" in here
        kernel["meta"] = ""
    missing = [f"{HEADERS}{each['release']}" for each in kernels if each["package"] and not each["headers"]]
    return {
        "packages": {name: version for name, version in here.items() if driver(name)},
        "listed": any(Path(root, CACHE).glob("*.solv")),
        "headers_offered": _offered(missing),
        "sources": [],
        "preferences": [],
    }


def _offered(names: Sequence[str]) -> list[str]:
    """Return those of the names that dnf could install, as far as its lists on the host tell."""
    if not names:
        return []
    query = ["dnf", "--quiet", "--cacheonly", "repoquery", "--qf", "%{name}-%{version}-%{release}.%{arch}", *names]
    return sorted(set(output(*query).split()) & set(names))
