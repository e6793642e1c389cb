"""The package manager of this host, dpkg with apt or rpm with dnf: the one place that chooses between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rackhand.remote import apt, apt_sets, dnf, dnf_sets, dpkg, driver_repair, rpm
from rackhand.remote.exchange import Exchange, Outcome


class Manager(Protocol):
    """What a package manager does with the driver's packages; apt_sets and dnf_sets are alike in this."""

    def simulate(self, wish: Exchange, timeout_s: int) -> Outcome:
        """Work out what an exchange would do; raises Problem where there is no way."""

    def carry_out(self, wish: Exchange, timeout_s: int) -> None:
        """Exchange packages in one transaction; raises Problem."""

    def download(self, folder: Path, wanted: Mapping[str, str], timeout_s: int) -> None:
        """Fetch packages, name → version, into a directory; raises Problem."""

    def pattern(self, package: str, version: str) -> str:
        """Return the pattern of the name of a package's file."""

    def package_of(self, file: str) -> str:
        """Return the package that is in a file, by the file's name."""

    def offers(self, names: Sequence[str], timeout_s: int) -> dict[str, list[str]]:
        """Return the package versions on offer by name, the newest first; names that nobody offers are absent."""

    def update(self, repository_url: str, timeout_s: int) -> None:
        """Read every package list, this repository's among them; raises Problem."""

    def hold(self, held: Mapping[str, str], freed: Sequence[str], timeout_s: int) -> None:
        """Keep packages, name → version, where they are, and others no more; raises Problem."""


def sets() -> Manager:
    """Return what exchanges the driver's packages here."""
    return apt_sets if dpkg.rules() else dnf_sets


def here() -> list[dpkg.Package]:
    """List what is installed wholly or in part, of this machine's own architecture."""
    return dpkg.here() if dpkg.rules() else rpm.here()


def older(version: str, other: str) -> bool:
    """Say whether a package version is older than another."""
    return dpkg.older(version, other) if dpkg.rules() else rpm.older(version, other)


def install(packages: Sequence[str], log: str, timeout_s: int) -> None:
    """Install packages of the distribution, as its lists have them now; raises Problem."""
    if dpkg.rules():
        apt.get(["update"], f"{log}-update", timeout_s)
        apt.get(["install", "--no-install-recommends", *packages], f"{log}-install", timeout_s)
    else:
        dnf.get(["--setopt=install_weak_deps=False", "--refresh", "install", *packages], f"{log}-install", timeout_s)


def mend(family: Sequence[str], file_of: Callable[[str], Path | None]) -> None:
    """Leave no driver's package in a state in which the package manager refuses to work."""
    if dpkg.rules():
        driver_repair.mend(family, file_of)
    else:
        dnf_sets.mend(family)
