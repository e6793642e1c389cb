"""drivers.yaml: branches, NVIDIA's repository per distribution, and the packages of a compute-only host."""

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rackhand.catalog.book import HERE, Book, Entry, read
from rackhand.errors import RackhandError

BranchName = Annotated[str, Field(pattern=r"^\d{3}$")]
DriverVersion = Annotated[str, Field(pattern=r"^\d{3}\.\d+(\.\d+)?$")]


class Kind(StrEnum):
    """NVIDIA's kinds of branch: long-term support, production, new feature."""

    LTSB = "LTSB"
    PB = "PB"
    NFB = "NFB"


class Branch(Entry):
    """One driver branch; `cuda` is its native CUDA version, `latest` the newest point release known."""

    name: BranchName
    kind: Kind
    support_ends: date | None
    cuda: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    latest: DriverVersion | None
    modules: tuple[Literal["open", "proprietary"], ...]

    @property
    def cuda_major(self) -> int:
        return int(self.cuda.split(".")[0])


class Repository(Entry):
    """NVIDIA's repository for one release of a distribution."""

    distribution: str
    version: str
    name: str
    url: Annotated[str, Field(pattern=r"^https://.+/\{architecture\}$")]
    architectures: Annotated[tuple[str, ...], Field(min_length=1)]
    key_file: str
    key_fingerprint: Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")]
    packages: str
    supported: bool


class PackageSet(Entry):
    """Names of one family of distributions for branches `first_branch` to `last_branch`; `{branch}` is the number."""

    packages: str
    first_branch: BranchName
    last_branch: BranchName
    install: Annotated[tuple[str, ...], Field(min_length=1)]
    nvswitch: tuple[str, ...]
    pinned: Annotated[tuple[str, ...], Field(min_length=1)]
    version_pattern: str


class Service(Entry):
    """A systemd unit that the packages bring and that must run; `nvswitch` limits it to hosts with NVSwitches."""

    name: str
    nvswitch: bool


class DriverBook(Book):
    """The whole file."""

    branches: tuple[Branch, ...]
    repositories: tuple[Repository, ...]
    package_sets: tuple[PackageSet, ...]
    services: tuple[Service, ...]

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        known = {row.name for row in self.branches}
        families = {row.packages for row in self.package_sets}
        for bounds in self.package_sets:
            if not {bounds.first_branch, bounds.last_branch} <= known:
                raise ValueError(f"package set of {bounds.packages}: unknown branch")
        for repository in self.repositories:
            if repository.packages not in families:
                raise ValueError(f"{repository.name}: no package set {repository.packages!r}")
        for row in self.branches:
            if row.latest is not None and branch_of(row.latest) != row.name:
                raise ValueError(f"branch {row.name}: {row.latest} is not of it")
        return self


@dataclass(frozen=True, kw_only=True)
class DriverSet:
    """Everything apt needs for one branch on one distribution; versions are one for the whole set.

    `install` are package names, `pinned` shell patterns of all that must not move by itself, `latest` the newest
    version known, `services` units that must run afterwards, `version_pattern` package versions of driver {version}.
    """

    distribution: str
    branch: str
    latest: str
    repository_url: str
    key_url: str
    key_fingerprint: str
    install: tuple[str, ...]
    pinned: tuple[str, ...]
    services: tuple[str, ...]
    version_pattern: str

    def carries(self, package_version: str, driver_version: str) -> bool:
        """Say whether the package version (580.178.04-1ubuntu1) carries the driver version (580.178.04)."""
        pattern = self.version_pattern.replace("{version}", re.escape(driver_version))
        return re.search(pattern, package_version.split(":", 1)[-1]) is not None


def branch_of(driver_version: str) -> str:
    """Return the branch of a driver version: what stands before the first dot (NVML's own answer is wrong)."""
    return driver_version.split(".", 1)[0]


def branch(name: str) -> Branch:
    """Return one branch; raises RackhandError `unknown-branch`."""
    rows = _book().branches
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        known = ", ".join(row.name for row in rows)
        raise RackhandError(
            "unknown-branch",
            f"no driver branch {name} (known: {known})",
            "driver_branch",
            "choose a known one; 580 is the default",
        )
    return found


def driver_packages(
    distribution_id: str, version_id: str, branch_name: str, nvswitch: bool, architecture: str = "x86_64"
) -> DriverSet:
    """Return repository, key and packages for ID and VERSION_ID of /etc/os-release.

    Raises RackhandError `unsupported-distribution`, `unsupported-architecture`, `unknown-branch`, `unsupported-branch`.
    """
    repository = _repository(distribution_id, version_id)
    wanted = branch(branch_name)
    names = _package_set(repository, wanted)
    url = _url(repository, architecture)
    return DriverSet(
        distribution=repository.name,
        branch=wanted.name,
        latest=wanted.latest or "",
        repository_url=url,
        key_url=f"{url}/{repository.key_file}",
        key_fingerprint=repository.key_fingerprint,
        install=_named((*names.install, *(names.nvswitch if nvswitch else ())), wanted.name),
        pinned=_named(names.pinned, wanted.name),
        services=tuple(row.name for row in _book().services if nvswitch or not row.nvswitch),
        version_pattern=names.version_pattern,
    )


def pinned_patterns() -> tuple[str, ...]:
    """Return the shell patterns of every package that any driver set pins: what to look for on a host."""
    book = _book()
    return tuple(
        sorted(
            {
                pattern
                for names in book.package_sets
                for row in book.branches
                if names.first_branch <= row.name <= names.last_branch
                for pattern in _named(names.pinned, row.name)
            }
        )
    )


def _repository(distribution_id: str, version_id: str) -> Repository:
    rows = _book().repositories
    found = next((row for row in rows if (row.distribution, row.version) == (distribution_id, version_id)), None)
    if found is None or not found.supported:
        name = found.name if found else f"{distribution_id} {version_id}".strip()
        offered = ", ".join(row.name for row in rows if row.supported)
        raise RackhandError(
            "unsupported-distribution",
            f"{name} is not supported (supported: {offered})",
            name,
            "reinstall the host with a supported one, or install the driver yourself and set driver_manage = False",
        )
    return found


def _url(repository: Repository, architecture: str) -> str:
    directory = {"aarch64": "sbsa"}.get(architecture, architecture)
    if directory not in repository.architectures:
        offered = ", ".join(repository.architectures)
        what = f"NVIDIA's repository for {repository.name} has no {architecture} (it has {offered})"
        raise RackhandError("unsupported-architecture", what, repository.name, "use a host of an offered architecture")
    return repository.url.format(architecture=directory)


def _package_set(repository: Repository, wanted: Branch) -> PackageSet:
    rows = [row for row in _book().package_sets if row.packages == repository.packages]
    found = next((row for row in rows if row.first_branch <= wanted.name <= row.last_branch), None)
    if found is None:
        offered = " or ".join(f"{row.first_branch} to {row.last_branch}" for row in rows)
        what = f"branch {wanted.name} cannot be installed on {repository.name} (possible: {offered})"
        raise RackhandError("unsupported-branch", what, "driver_branch", "choose a possible branch; 580 is the default")
    return found


def _named(patterns: tuple[str, ...], branch_name: str) -> tuple[str, ...]:
    return tuple(pattern.replace("{branch}", branch_name) for pattern in patterns)


@cache
def _book() -> DriverBook:
    return read(DriverBook, HERE / "drivers.yaml")
