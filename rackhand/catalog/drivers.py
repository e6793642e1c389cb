"""drivers.yaml: branches, NVIDIA's repository per distribution, and the packages of a compute-only host."""

from datetime import date
from enum import StrEnum
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rackhand.catalog.book import HERE, Book, Entry, read
from rackhand.errors import RackhandError

BranchName = Annotated[str, Field(pattern=r"^\d{3}$")]
Manager = Literal["apt", "dnf"]
ModuleBuild = Literal["dkms", "precompiled"]
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


class Platform(StrEnum):
    """What joins a host's GPUs, as far as its software goes: it decides which daemons CUDA waits for."""

    CARDS = "cards"
    NVSWITCH = "nvswitch"
    NVLINK5 = "nvlink5"
    RACK = "rack"


class Origin(StrEnum):
    """Who packaged a driver: NVIDIA, or the distribution. The two must never be mixed on a host."""

    NVIDIA = "nvidia"
    DISTRIBUTION = "distribution"


class Repository(Entry):
    """Where one release of a distribution gets its driver from; `url` is null where its own sources have it.

    `key_fingerprint` is null where nobody has published it, `first_branch` the oldest branch that is there.
    """

    distribution: str
    version: str
    name: str
    origin: Origin
    manager: Manager = "apt"
    url: Annotated[str, Field(pattern=r"^https://.+/\{architecture\}$")] | None = None
    architectures: Annotated[tuple[str, ...], Field(min_length=1)]
    key_file: str | None = None
    key_fingerprint: Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")] | None = None
    packages: str
    first_branch: BranchName

    def covers(self, version: str) -> bool:
        """Say whether a release is this one or a minor one of it: 9.6 is a 9, and 22.04 no 22.10."""
        return version == self.version or version.startswith(f"{self.version}.")


class PackageSet(Entry):
    """Names of one family of packages for branches `first_branch` to `last_branch`; the YAML explains the fields."""

    packages: str
    first_branch: BranchName
    last_branch: BranchName
    install: Annotated[tuple[str, ...], Field(min_length=1)]
    module: ModuleBuild
    fabric: dict[Platform, tuple[str, ...]] = Field(default_factory=dict)
    beside: dict[Platform | Literal["all"], tuple[str, ...]] = Field(default_factory=dict)
    modules: str = ""
    kinds: dict[str, str] = Field(default_factory=dict)
    pinned: Annotated[tuple[str, ...], Field(min_length=1)]
    version_pattern: str

    @model_validator(mode="after")
    def _modules_are_named(self) -> Self:
        if (self.module == "precompiled") is not bool(self.modules):
            raise ValueError(f"package set of {self.packages}: ready-built modules alone have packages of their own")
        return self


class Service(Entry):
    """A systemd unit that the packages bring and that must run on these kinds of host."""

    name: str
    platforms: tuple[Platform, ...]


class Space(Entry):
    """Free space that a change of the driver needs, in MiB by path."""

    module: ModuleBuild
    mib: dict[str, Annotated[int, Field(gt=0)]]


class DriverBook(Book):
    """The whole file."""

    branches: tuple[Branch, ...]
    default_branches: Annotated[tuple[BranchName, ...], Field(min_length=1)]
    repositories: tuple[Repository, ...]
    package_sets: tuple[PackageSet, ...]
    space: tuple[Space, ...]
    services: tuple[Service, ...]

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        known = {row.name for row in self.branches}
        families = {row.packages for row in self.package_sets}
        if not set(self.default_branches) <= known:
            raise ValueError("default_branches: unknown branch")
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


def branch_of(driver_version: str) -> str:
    """Return the branch of a driver version: what stands before the first dot (NVML's own answer is wrong)."""
    return driver_version.split(".", 1)[0]


def branch(name: str) -> Branch:
    """Return one branch; raises RackhandError `unknown-branch`."""
    rows = driver_book().branches
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        known = ", ".join(row.name for row in rows)
        raise RackhandError(
            "unknown-branch",
            f"no driver branch {name} (known: {known})",
            "driver_branch",
            "choose a known one, or None",
        )
    return found


def default_branches() -> tuple[str, ...]:
    """Return the branches for a host of which nobody wishes one, the best first."""
    return driver_book().default_branches


def space_mib(module: ModuleBuild) -> dict[str, int]:
    """Return the free space that a change needs, in MiB by path."""
    return next(row.mib for row in driver_book().space if row.module == module)


@cache
def driver_book() -> DriverBook:
    return read(DriverBook, HERE / "drivers.yaml")
