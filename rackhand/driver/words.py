"""Say a driver plan to a person: what comes, what goes, what stops, and whether the host reboots. Pure."""

from collections.abc import Iterator, Sequence

from rackhand import remedies
from rackhand.catalog import Branch, Kind, Origin
from rackhand.driver.activation import Activation
from rackhand.driver.ground import Kernel
from rackhand.driver.modules import lacking
from rackhand.driver.refusals import Case
from rackhand.hardware import Inventory

FABRIC = {
    "nvswitch": " with the fabric manager for its NVSwitches",
    "nvlink5": " with the fabric manager and the subnet manager for its NVSwitches",
    "rack": " with the IMEX daemon of its rack",
}


def unmanaged(version: str) -> tuple[str, ...]:
    """Say that the driver is only looked at."""
    return (f"driver {version}: verified, not managed",)


def words(case: Case, found: Inventory, wrong: Sequence[str], way: Activation, lines: Sequence[str]) -> Iterator[str]:
    """Yield the plan line by line; `wrong` are members without the version, `lines` what else has to be said."""
    driver, version = case.survey.driver, case.version
    end = f"; {way.words}" if way.words else ""
    if not wrong:
        before = f"installed, loaded now: {driver.loaded or 'none'}{end}"
        yield f"driver {version}: {before if end else 'installed and loaded'}"
        return
    now = f" (loaded now: {driver.loaded})" if driver.loaded else ""
    yield f"driver {version}{FABRIC.get(found.platform, '')}: install, pin and hold{now}{end}"
    yield f"driver: {_whose(case)}"
    yield from lines


def _whose(case: Case) -> str:
    """Say where the driver comes from and who builds its module."""
    kernel, packages = case.survey.ground.coming, case.packages
    where = f" for {kernel.release}" if kernel else ""
    if packages.source is Origin.DISTRIBUTION:
        return f"{packages.distribution}'s own packages, their ready-built and signed open module{where}"
    return f"NVIDIA's packages for {packages.distribution}, open module built here{where}"


def warnings(branch: Branch, today: str) -> Iterator[str]:
    """Yield what speaks against a branch for a fleet; `today` as ISO writes it, empty where the host's clock is off."""
    if branch.support_ends is None and branch.kind is Kind.NFB:
        yield f"driver branch {branch.name} is a new-feature branch: NVIDIA promises no end of its support"
    if branch.support_ends is not None and today > branch.support_ends.isoformat():
        yield f"driver branch {branch.name}: NVIDIA's support ended on {branch.support_ends}"


def ahead(case: Case) -> Iterator[str]:
    """Warn of a next kernel without this driver's module, where nothing is going to change that."""
    kernel = case.survey.ground.coming
    if kernel is None or kernel.running or kernel.module == case.version:
        return
    has = f"the module of {kernel.module}" if kernel.module else "no nvidia module"
    would = f"a reboot would end without this driver ({_cure(case, kernel)})"
    yield f"the kernel {kernel.release} boots next and has {has}: {would}"


def _cure(case: Case, kernel: Kernel) -> str:
    packages = case.packages
    missing = lacking(kernel, case.survey.ground, packages)
    if missing:
        return f"{', '.join(missing)} is neither installed nor on offer: have another kernel boot until it is"
    built = "".join(packages.ready_built(kernel.release))
    needed = "" if kernel.headers or not kernel.package else packages.headers(kernel.release)
    return remedies.module(kernel.release, packages.manager, built, needed)
