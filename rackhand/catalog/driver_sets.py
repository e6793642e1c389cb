"""The packages of one driver branch on one host: looked up in drivers.yaml by distribution, origin and hardware."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from rackhand.catalog.drivers import (
    Branch,
    Manager,
    ModuleBuild,
    Origin,
    PackageSet,
    Platform,
    Repository,
    branch,
    driver_book,
)
from rackhand.errors import RackhandError

# Of what stands beside a set, what no other program brings to a host.
OF_DRIVER = ("linux-modules-nvidia-", "nvlsm")
SBSA = {"aarch64": "sbsa"}
HEADERS: dict[Manager, str] = {"apt": "linux-headers-{kernel}", "dnf": "kernel-devel-{kernel}"}
# Keeps the headers beside every later kernel; apt's goes by the kind of kernel.
FOLLOWS = "kernel-devel-matched-{kernel}"


@dataclass(frozen=True, kw_only=True)
class DriverSet:
    """Everything a package manager needs for one branch on one distribution; versions are one for the whole set.

    `install` are package names, `pinned` shell patterns of all that must not move by itself, `latest` the newest
    version known, `services` units that must run afterwards, `version_pattern` package versions of driver {version}.
    `beside` belong to the set and have versions of their own. `module` says who builds the kernel module: dkms on the
    host, or the distribution, whose `modules` are named after a {kernel}. The addresses and the fingerprint of the key
    are empty where the distribution's own sources have the packages; the key alone is empty where nobody has published
    it.
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
    manager: Manager = "apt"
    source: Origin = Origin.NVIDIA
    module: ModuleBuild = "dkms"
    beside: tuple[str, ...] = ()
    modules: str = ""

    def ready_built(self, kernel: str) -> tuple[str, ...]:
        """Name the package with the distribution's module for a kernel, or for a kind of kernel; none with dkms."""
        return (self.modules.replace("{kernel}", kernel),) if self.modules and kernel else ()

    def headers(self, kernel: str) -> str:
        """Name the package with which a module is built for a kernel."""
        return kernel_headers(self.manager, kernel)

    def follows(self, kernel: str, meta: str) -> str:
        """Name the package that brings the headers of later kernels; empty where nobody knows it.

        `meta` is apt's package that follows this kind of kernel.
        """
        if self.manager == "dnf":
            return FOLLOWS.replace("{kernel}", kernel)
        return meta.replace("image", "headers", 1)

    @property
    def own(self) -> tuple[str, ...]:
        """Name all that belongs to the driver, what has a version of its own (modules, nvlsm) included."""
        return (*self.install, *(name for name in self.beside if name.startswith(OF_DRIVER)))

    def lacks(self, installed: Collection[str]) -> tuple[str, ...]:
        """Name what belongs to the driver beside the set and is not among a host's packages."""
        return tuple(name for name in self.own if name not in {*installed, *self.install})

    def carries(self, package_version: str, driver_version: str) -> bool:
        """Say whether the package version (580.178.04-1ubuntu1) carries the driver version (580.178.04)."""
        pattern = self.version_pattern.replace("{version}", re.escape(driver_version))
        return re.search(pattern, package_version.split(":", 1)[-1]) is not None


@dataclass(frozen=True, kw_only=True)
class DriverHost:
    """What decides about packages: ID and VERSION_ID of /etc/os-release, processor, what joins the GPUs.

    `flavour` is the kind of kernel for which the distribution builds modules (generic, generic-hwe-24.04, aws).
    """

    distribution: str
    version: str
    architecture: str = "x86_64"
    platform: Platform = Platform.CARDS
    flavour: str = ""


def driver_packages(host: DriverHost, branch_name: str, origin: Origin = Origin.NVIDIA) -> DriverSet:
    """Return repository, key and packages.

    Raises RackhandError `unsupported-distribution`, `unsupported-architecture`, `unknown-branch`, `unsupported-branch`,
    `driver-fabric`.
    """
    repository = _repository(host, origin)
    wanted = branch(branch_name)
    names = _package_set(host, repository, wanted)
    url = _url(repository, host.architecture)
    fabric = _fabric(repository, names, host.platform)
    (modules,) = _named((names.modules,), wanted.name)
    found = DriverSet(
        distribution=repository.name,
        branch=wanted.name,
        latest=wanted.latest or "",
        repository_url=url,
        key_url=f"{url}/{repository.key_file}" if url and repository.key_file else "",
        key_fingerprint=repository.key_fingerprint or "",
        install=_named((*names.install, *fabric), wanted.name),
        pinned=_named(names.pinned, wanted.name),
        services=tuple(row.name for row in driver_book().services if host.platform in row.platforms),
        version_pattern=names.version_pattern,
        manager=repository.manager,
        source=origin,
        module=names.module,
        modules=modules,
    )
    own = _named((*names.beside.get("all", ()), *names.beside.get(host.platform, ())), wanted.name)
    return replace(found, beside=(*found.ready_built(_kind(names, host.flavour)), *own))


def pinned_patterns() -> tuple[str, ...]:
    """Return the shell patterns of every package that any driver set pins: what to look for on a host."""
    book = driver_book()
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


def kernel_headers(manager: Manager, kernel: str) -> str:
    """Name the package with which a module is built for a kernel."""
    return HEADERS[manager].replace("{kernel}", kernel)


def ready_built(installed: Collection[str], kernel: str) -> str:
    """Name the package with the module for a kernel where installed packages are a set whose modules are ready-built.

    Empty elsewhere.
    """
    for names in driver_book().package_sets:
        for row in driver_book().branches if names.modules else ():
            fits = names.first_branch <= row.name <= names.last_branch
            if fits and {*_named(names.install, row.name)} <= {*installed}:
                return _named((names.modules,), row.name)[0].replace("{kernel}", kernel)
    return ""


def branches(host: DriverHost, origin: Origin) -> tuple[str, ...]:
    """Return the branches that can be installed on a host from an origin; empty where there is nothing at all."""
    rows = [row for row in _rows(host) if row.origin is origin]
    known = driver_book().branches
    return tuple(row.name for row in known if rows and _found(rows[0], row) is not None)


def _rows(host: DriverHost) -> list[Repository]:
    rows = driver_book().repositories
    return [row for row in rows if row.distribution == host.distribution and row.covers(host.version)]


def _repository(host: DriverHost, origin: Origin) -> Repository:
    here = _rows(host)
    found = next((row for row in here if row.origin is origin), None)
    if found is not None:
        return found
    name = here[0].name if here else f"{host.distribution} {host.version}".strip()
    offered = ", ".join(dict.fromkeys(row.name for row in driver_book().repositories if row.origin is origin))
    whose = "its own driver packages" if origin is Origin.DISTRIBUTION else "packages of NVIDIA's"
    raise RackhandError(
        "unsupported-distribution",
        f"{name} is not supported with {whose} (supported: {offered})",
        name,
        "set driver_source = 'nvidia'"
        if here
        else "reinstall the host with a supported one, or install the driver yourself and set driver_manage = False",
    )


def _url(repository: Repository, architecture: str) -> str:
    directory = SBSA.get(architecture, architecture)
    if directory not in repository.architectures:
        offered = ", ".join(repository.architectures)
        whose = "NVIDIA's repository for" if repository.url else "the catalogue of"
        what = f"{whose} {repository.name} has no {architecture} (it has {offered})"
        raise RackhandError("unsupported-architecture", what, repository.name, "use a host of an offered architecture")
    return repository.url.format(architecture=directory) if repository.url else ""


def _package_set(host: DriverHost, repository: Repository, wanted: Branch) -> PackageSet:
    found = _found(repository, wanted)
    if found is None:
        possible = ", ".join(branches(host, repository.origin))
        others = [each for each in Origin if each is not repository.origin and wanted.name in branches(host, each)]
        also = "".join(f", or set driver_source = '{each}', which has it" for each in others)
        what = f"branch {wanted.name} cannot be installed on {repository.name} (possible: {possible})"
        step = f"set driver_branch to a possible one, or to None, which chooses{also}"
        raise RackhandError("unsupported-branch", what, "driver_branch", step)
    return found


def _found(repository: Repository, wanted: Branch) -> PackageSet | None:
    if wanted.name < repository.first_branch:
        return None
    rows = [row for row in driver_book().package_sets if row.packages == repository.packages]
    return next((row for row in rows if row.first_branch <= wanted.name <= row.last_branch), None)


def _fabric(repository: Repository, names: PackageSet, platform: Platform) -> tuple[str, ...]:
    if platform is Platform.CARDS:
        return ()
    if platform not in names.fabric:
        what = f"the driver packages of {repository.name} itself lack what this platform ({platform}) needs"
        raise RackhandError("driver-fabric", what, repository.name, "set driver_source = 'nvidia'")
    return names.fabric[platform]


def _kind(names: PackageSet, flavour: str) -> str:
    """Return the kind of kernel for which modules are built in place of one (virtual-hwe-24.04: generic-hwe-24.04)."""
    kind, dash, release = flavour.partition("-")
    return f"{names.kinds.get(kind, kind)}{dash}{release}"


def _named(patterns: tuple[str, ...], branch_name: str) -> tuple[str, ...]:
    return tuple(pattern.replace("{branch}", branch_name) for pattern in patterns)
