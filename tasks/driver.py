"""The NVIDIA driver: installed at exactly the planned version, pinned and held."""

from collections.abc import Sequence

from rackhand.catalog import DriverSet, pinned_patterns
from rackhand.driver import activation, modules
from rackhand.driver.activation import Way
from rackhand.operations import Change
from rackhand.outcome import Problem
from rackhand.plan import DriverPlan
from rackhand.remote.dpkg import belongs, upstream
from rackhand.render import ROOT
from rackhand.run import HostRun
from rackhand.session import inner_s
from rackhand.settings import Settings
from rackhand.survey import Survey
from tasks import switch

# What comes between the driver and the switch, in seconds, and what the exchange of its modules takes at most.
STAGE_S = 900
RELOAD_S = 900
# The part of that which is left for what was stopped to come back, however long the rest took.
RETURN_S = 300
# Servers of ours, which the turn drains and stops.
OURS = ("vllm@*.service", "rackhand-*.service")


def stage(host: HostRun) -> Change | None:
    """Store the driver's packages on the host and have their exchange worked out, while everything still serves."""
    driver = host.planned.driver
    packages = driver.packages
    if packages is None or _installed(host.survey(), packages, driver.version):
        return None
    _refuse_mismatch(host, driver.version)
    if _staged(host.survey(), packages, driver):
        return None
    summary = f"store the packages of {driver.version} and of what is installed, simulate their exchange"
    return Change(summary=summary, apply=lambda: _stage(host, packages, driver.version))


def _staged(seen: Survey, packages: DriverSet, driver: DriverPlan) -> bool:
    """Say whether both directions are stored: what is to come, and what there is, unless that is to stay."""
    present = [name for name in seen.packages.installed if belongs(name, pinned_patterns())]
    back = not present or seen.driver_sets.installed or _versions_right(seen, packages, driver.version)
    return bool(back) and seen.driver_sets.has(driver.version, driver.needs)


def _stage(host: HostRun, packages: DriverSet, version: str) -> None:
    settings = host.intent.settings
    wish = {
        "repository_url": settings.driver_repository_url or packages.repository_url,
        "key_url": _key_url(packages, settings),
        "fingerprint": settings.driver_key_fingerprint or packages.key_fingerprint,
        "packages": list(packages.install),
        "beside": list(packages.beside),
        "headers": list(host.planned.driver.headers),
        "needs": list(host.planned.driver.needs),
        "family": list(pinned_patterns()),
        "services": list(packages.services),
        "version": version,
    }
    limit_s = settings.driver_install_timeout_s
    with host.waiting(f"packages of driver {version}", limit_s, log="driver"):
        staged = host.call("driver.stage", limit_s, root=ROOT, wish=wish, timeout_s=inner_s(limit_s))
    host.note("driver-stage", **staged)
    if staged["why"]:
        _warn(host, staged["why"])


def _warn(host: HostRun, why: str) -> None:
    """Say that a driver that fails cannot be rolled back; raises RackhandError where that was demanded."""
    what = f"the driver that is installed cannot be stored, so there is no way back to it: {why}"
    if host.intent.settings.driver_require_rollback:
        step = "repair the installed driver or name a repository that has it; or set driver_require_rollback = False"
        raise host.error("rollback-not-guaranteed", f"{what}; nothing was changed", step)
    step = "nothing if the new driver works; driver_require_rollback = True refuses such a change"
    host.warnings.append(Problem(code="rollback-not-guaranteed", what=what, where=host.name, next_step=step))


def install(host: HostRun) -> Change | None:
    """Put the stored packages on, pin and hold them, unless every member is at the planned version and on hold."""
    driver = host.planned.driver
    packages = driver.packages
    if packages is None or _installed(host.survey(), packages, driver.version):
        return None
    _refuse_mismatch(host, driver.version)
    seen = host.survey()
    there = _versions_right(seen, packages, driver.version)
    what = "put back the hold on" if there else "install"
    half = f"; {', '.join(_unfinished(seen))} had been left half installed" if _unfinished(seen) else ""
    summary = f"{what} {driver.version} ({', '.join(packages.install)}), pin and hold{half}"
    return Change(
        summary=summary, apply=lambda: _put(host, driver.needs, driver.version, stops=not there), together=not there
    )


def restore(host: HostRun) -> Change | None:
    """Put the driver back on which the wished release ran, from the packages that are stored on the host."""
    driver, sets = host.planned.driver, host.survey().driver_sets
    installed = sets.sets.get(sets.installed)
    if not driver.stored or (installed is not None and installed.version == driver.version):
        return None
    summary = f"put back {driver.version} from the packages stored on the host, pin and hold"
    return Change(summary=summary, apply=lambda: _put(host, (), driver.version, stops=True), together=True)


def _put(host: HostRun, packages: Sequence[str], version: str, *, stops: bool) -> None:
    """Put the packages of the driver onto the host; before any of them changes, its servers are drained and stopped."""
    settings = host.intent.settings
    if stops:
        refuse_holders(host)
        switch.hold(host, hold_s(settings))
        host.driver_changed = True
    host.board.phase(host.name, "driver")
    limit_s = settings.driver_install_timeout_s
    wanted = {"version": version, "packages": list(packages)}
    with host.waiting(f"driver {version}", limit_s, log="driver"):
        host.call("driver.put", limit_s, root=ROOT, run=host.run, **wanted, timeout_s=inner_s(limit_s))
    host.note("driver", version=version)


def hold_s(settings: Settings) -> int:
    """Return for how long servers may be stopped for a driver, in seconds: packages, others', modules, a reboot."""
    return 2 * settings.driver_install_timeout_s + RELOAD_S + settings.driver_reboot_timeout_s + STAGE_S


def refuse_holders(host: HostRun) -> None:
    """Raise RackhandError `gpu-held` where somebody else's process holds a GPU; rackhand ends none of these."""
    spared = [*OURS, *(f"{name}.service" for name in activation.services())]
    host.call("gpu_holders.refuse", spared=spared)


def _refuse_mismatch(host: HostRun, version: str) -> None:
    """Keep a working driver working: where only a reboot would load another, and none is allowed, none is installed."""
    loaded, library = host.survey().driver.loaded, host.survey().driver.library
    way = activation.decide(host.survey(), host.planned.driver, installs=True)
    boots = way.way is Way.REBOOT and not host.intent.settings.driver_reboot_allowed
    if loaded and version not in (loaded, library) and boots:
        raise host.error(
            "reboot-needed",
            f"{loaded} is loaded, {version} is wished, which takes a reboot ({way.why}), and driver_reboot_allowed is "
            "False; nothing was installed",
            "set driver_reboot_allowed = True in a maintenance window, or driver_version to the loaded one",
        )


def _installed(seen: Survey, packages: DriverSet, version: str) -> bool:
    """Every package that was asked for has the version, and every member of the set is on hold."""
    members = [name for name in seen.packages.installed if belongs(name, packages.pinned)]
    loose = seen.driver_sets.differs(version)[1]
    return _versions_right(seen, packages, version) and set(members) <= set(seen.packages.held) and not loose


def _versions_right(seen: Survey, packages: DriverSet, version: str) -> bool:
    right = all(upstream(seen.packages.installed.get(name, "")) == version for name in packages.install)
    off = seen.driver_sets.differs(version)[0] or modules.missing(seen, packages)
    return right and not _unfinished(seen) and not off


def _unfinished(seen: Survey) -> list[str]:
    """Name the driver's packages that an earlier run, or somebody, left half installed."""
    return [name for name in seen.packages.unfinished if belongs(name, pinned_patterns())]


def _key_url(packages: DriverSet, settings: Settings) -> str:
    """Find the key beside the packages; its file is named after the end of its fingerprint, NVIDIA's as it likes.

    Empty where the distribution's own sources have the packages.
    """
    if not packages.repository_url:
        return ""
    mirror, fingerprint = settings.driver_repository_url, settings.driver_key_fingerprint
    known = packages.key_url.rpartition("/")[2]
    ours = fingerprint is None or fingerprint == packages.key_fingerprint
    name = f"{fingerprint[-8:]}.pub".lower() if fingerprint else known
    name = known if ours or name == known.lower() else name
    return f"{mirror or packages.repository_url}/{name}"
