"""The package manager of this host, dpkg with apt or rpm with dnf: the one place that chooses between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rackhand.remote import apt, dnf, dpkg, rpm

DPKG = Path("/var/lib/dpkg/status")


def here() -> list[dpkg.Package]:
    """List what is installed wholly or in part, of this machine's own architecture."""
    return dpkg.here() if DPKG.exists() else rpm.here()


def install(packages: Sequence[str], log: str, timeout_s: int) -> None:
    """Install packages of the distribution, as its lists have them now; raises Problem."""
    if DPKG.exists():
        apt.get(["update"], f"{log}-update", timeout_s)
        apt.get(["install", "--no-install-recommends", *packages], f"{log}-install", timeout_s)
    else:
        arguments = ["--setopt=install_weak_deps=False", "--refresh", "install", *packages]
        dnf.get(arguments, f"{log}-install", apt.wait_for_lock(f"{log}-install", timeout_s))
