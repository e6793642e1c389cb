"""What keeps a planned driver from being installed, found before anything changes. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby

from rackhand.catalog import DriverHost, DriverSet, Origin, branches, space_mib
from rackhand.driver.ground import AptPin, AptSource, Kernel
from rackhand.driver.modules import lacking
from rackhand.driver.origin import origins
from rackhand.naming import some
from rackhand.outcome import Problem
from rackhand.settings import Settings
from rackhand.survey import Survey

# Our own pin has this priority; the file of our source has this name, and apt reads files in order of their names.
OUR_PRIORITY = 1001
OUR_SOURCE = "/etc/apt/sources.list.d/rackhand-nvidia.sources"
# Where the key is with which dkms signs, and what makes it.
OF_DKMS = "mokutil --import /var/lib/dkms/mok.pub, which dkms makes with the first module that it builds"
MAKES_KEY = {"ubuntu": "update-secureboot-policy --new-key, mokutil --import /var/lib/shim-signed/mok/MOK.der"}
WHOSE = {Origin.NVIDIA: "NVIDIA's repository", Origin.DISTRIBUTION: "the distribution"}
PURGE = {"apt": "apt-get purge", "dnf": "dnf remove"}
CLEAN = {
    "apt": "apt-get clean; old kernels with apt-get autoremove --purge",
    "dnf": "dnf clean packages; old kernels with dnf remove --oldinstallonly",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One host, what is wished of it, and the packages and version that were chosen for it."""

    host: str
    survey: Survey
    settings: Settings
    packages: DriverSet
    version: str


def refusals(case: Case, installs: bool) -> Iterator[Problem]:
    """Yield every reason against changing the driver of this host as planned; `installs` when packages will move."""
    for check in (_origin, _secure_boot, _kernel, *((_space, _sources, _pins) if installs else ())):
        yield from check(case)


def _origin(case: Case) -> Iterator[Problem]:
    """Files of both origins have the same names, and apt takes neither for an upgrade of the other."""
    found = origins(case.survey.ground.packages, case.survey.host.distribution)
    others = {origin: names for origin, names in found.items() if origin is not case.packages.source}
    for origin, names in others.items():
        shown = some(names, 3)
        stay = f"set driver_source = '{origin}' to stay with them, or " if _offers(case, origin) else ""
        yield _problem(
            case,
            "driver-origin",
            f"the driver packages here are of {WHOSE[origin]} ({shown}), those of {WHOSE[case.packages.source]} are "
            "wished, and the two do not mix",
            f"{stay}purge them on the host first ({PURGE[case.packages.manager]}), then run again",
        )


def _offers(case: Case, origin: Origin) -> bool:
    facts = case.survey.host
    where = DriverHost(distribution=facts.distribution, version=facts.version, architecture=facts.architecture)
    return case.packages.branch in branches(where, origin)


def _secure_boot(case: Case) -> Iterator[Problem]:
    """A module that was built here loads only when the firmware trusts the host's own key; that takes the console."""
    enrolled = case.survey.ground.key_enrolled
    loads = enrolled or (enrolled is None and case.survey.driver.ready)
    if not case.survey.host.secure_boot or case.packages.module == "precompiled" or loads:
        return
    key = "is not enrolled" if enrolled is False else "is not known to be enrolled"
    signed = "set driver_source = 'distribution' (signed modules), " if _offers(case, Origin.DISTRIBUTION) else ""
    yield _problem(
        case,
        "secure-boot",
        f"Secure Boot is on, the kernel module would be built here, and the host's key for modules {key}",
        f"{signed}enrol the key ({MAKES_KEY.get(case.survey.host.distribution, OF_DKMS)}, then the console at the next "
        "boot), or turn Secure Boot off",
    )


def _kernel(case: Case) -> Iterator[Problem]:
    """The kernel that boots next must have the module, or the host comes back without a driver."""
    kernel = case.survey.ground.coming
    if kernel is not None:
        check = _ready_built if case.packages.module == "precompiled" else _buildable
        yield from check(case, kernel)


def _ready_built(case: Case, kernel: Kernel) -> Iterator[Problem]:
    ground = case.survey.ground
    known = {*ground.modules_offered, *ground.packages}
    kind = {name for name in case.packages.beside if name.startswith(case.packages.modules.partition("{")[0])}
    if not kernel.meta or (ground.listed and not kind <= known):
        what = f"there is no {', '.join(kind)}" if kernel.meta else "no installed package linux-image-… follows it"
        yield _problem(
            case,
            "kernel-flavour",
            f"the distribution builds no modules for the kernel {kernel.release} and those that follow it: {what}",
            "install a kernel that it builds them for (linux-image-generic), or set driver_source = 'nvidia'",
        )
        return
    missing = {*case.packages.ready_built(kernel.release)} - known
    if ground.listed and missing:
        yield _problem(
            case,
            "kernel-module",
            f"the distribution has no module of branch {case.packages.branch} for the kernel {kernel.release} that "
            f"{_when(kernel)}: {', '.join(missing)} is neither installed nor on offer",
            "upgrade the kernel to one that has it and reboot into it (apt-get full-upgrade), or set driver_source = "
            "'nvidia'; then run again",
        )


def _buildable(case: Case, kernel: Kernel) -> Iterator[Problem]:
    """A kernel of one's own of which only the running system tells is left alone: it may well have its headers."""
    for name in lacking(kernel, case.survey.ground, case.packages):
        yield _problem(
            case,
            "kernel-headers",
            f"no module can be built for the kernel {kernel.release} that {_when(kernel)}: {name} is neither installed "
            "nor on offer",
            "upgrade the kernel together with its headers and reboot into it, then run again"
            if kernel.package
            else f"install the headers with which that kernel was built (/lib/modules/{kernel.release}/build)",
        )


def _when(kernel: Kernel) -> str:
    return "runs here" if kernel.running else "boots next"


def _space(case: Case) -> Iterator[Problem]:
    needs = space_mib(case.packages.module)
    places = sorted((place for place in case.survey.ground.places if place.path in needs), key=lambda each: each.device)
    for _, group in groupby(places, key=lambda place: place.device):
        shared = list(group)
        need, free = sum(needs[place.path] for place in shared), min(place.free_mib for place in shared)
        if need > free:
            paths = ", ".join(place.path for place in shared)
            yield _problem(
                case,
                "driver-space",
                f"a change of the driver needs {need:,} MiB on the disk of {paths}, and {free:,} MiB are free",
                f"free {need - free:,} MiB there ({CLEAN[case.packages.manager]})",
            )


def _sources(case: Case) -> Iterator[Problem]:
    """Apt refuses to read anything when two files name one repository with different keys."""
    url = case.settings.driver_repository_url or case.packages.repository_url
    for source in case.survey.ground.sources:
        if url and (source.uri, source.suite) == (url, "/") and _conflicts(source):
            yield _problem(
                case,
                "repository-conflict",
                f"{source.file} names {url} with another key ({source.key or 'any that apt trusts'})",
                f"delete {source.file} on the host, then run again: rackhand writes its own",
            )


def _conflicts(source: AptSource) -> bool:
    return bool(source.key) or source.file > OUR_SOURCE


def _pins(case: Case) -> Iterator[Problem]:
    for pin in case.survey.ground.preferences:
        if (pin.priority < 0 or pin.priority >= OUR_PRIORITY) and _concerns(pin, case.packages):
            yield _problem(
                case,
                "driver-pinned",
                f"{pin.file} pins {pin.packages} ({pin.pin}) with priority {pin.priority}, which keeps the driver away",
                f"take that out of {pin.file} on the host, then run again",
            )


def _concerns(pin: AptPin, packages: DriverSet) -> bool:
    """Say whether a pin is about the driver: by names, or by where packages come from."""
    patterns = pin.packages.split()
    named = any(fnmatchcase(name, pattern) for name in packages.install for pattern in patterns if pattern != "*")
    return named or ("*" in patterns and "nvidia" in pin.pin.lower())


def _problem(case: Case, code: str, what: str, next_step: str) -> Problem:
    return Problem(code=code, what=what, where=case.host, next_step=next_step)
