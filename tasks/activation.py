"""The driver that is installed becomes the one that is loaded: by its modules' exchange, or else by a reboot."""

import time
from collections.abc import Mapping, Sequence

from rackhand.catalog import platforms
from rackhand.driver import activation
from rackhand.driver.activation import Activation, Way
from rackhand.operations import Change
from rackhand.outcome import Problem
from rackhand.run import HostRun
from rackhand.seen import inventory
from rackhand.session import inner_s
from tasks import driver, switch

# A host answers before its kernel has loaded the modules of all devices: for so long after a boot they are waited for.
ARRIVAL_S, ARRIVAL_POLL_S = 30, 2


def activate(host: HostRun) -> Change | None:
    """Have the installed driver loaded, and read the facts again afterwards."""
    plan, seen = host.planned.driver, host.survey()
    if not plan.managed or seen.driver.open_ready:
        return None
    if not host.live and (driver.install(host) or driver.restore(host)):
        return None  # what is loaded says nothing before the packages are there
    found = activation.decide(seen, plan, installs=False)
    if found.way is Way.REBOOT:
        _allowed(host, found.why)
    now = f"{seen.driver.loaded or 'no driver'} is loaded, {seen.driver.library or 'none'} is installed"
    return Change(summary=f"{now}: {found.words}", apply=lambda: _activate(host, found), together=True)


def _allowed(host: HostRun, why: str) -> None:
    """Raise RackhandError where a reboot is needed and not allowed."""
    if not host.intent.settings.driver_reboot_allowed:
        seen = host.survey().driver
        raise host.error(
            "reboot-needed",
            f"{seen.loaded or 'no driver'} is loaded and {seen.library or 'none'} is installed, only a reboot changes "
            f"that ({why}), and driver_reboot_allowed is False",
            "reboot the host in its maintenance window, or set driver_reboot_allowed = True; then run again",
        )


def _activate(host: HostRun, found: Activation) -> None:
    driver.refuse_holders(host)
    why = found.why if found.way is Way.REBOOT else _renew(host)
    if why:
        host.changed()
        _allowed(host, why)
        reboot(host, why)
    else:
        _warn(host)
    host.note("driver-load", loaded=host.survey().driver.loaded, way="reboot" if why else found.way.value, why=why)


def _renew(host: HostRun) -> str:
    """Exchange the modules; return what of the driver is not the planned version then, and why, empty where all is."""
    settings, limit_s = host.intent.settings, driver.RELOAD_S
    switch.hold(host, driver.hold_s(settings))
    host.board.phase(host.name, "reload")
    modules = platforms.modules(inventory(host.survey()).platform)
    wanted = {"services": list(activation.services()), "modules": list(modules)}
    with host.waiting("the driver's modules", limit_s, log="driver"):
        done = host.call("driver_load.renew", limit_s, **wanted, timeout_s=limit_s - driver.RETURN_S)
    host.changed()
    warn_of(host, done["down"], "the driver's modules were exchanged")
    _warn_of_lost(host, done["lost"])
    return done["why"] or activation.apart(host.survey(), host.planned.driver.version)


def warn_of(host: HostRun, down: Sequence[str], event: str) -> None:
    """Warn of services that had run before an event and do not start after it."""
    for name in down:
        what = f"{name} had run before {event} and does not start now"
        step = f"see 'journalctl -u {name}' on the host"
        host.warnings.append(Problem(code="service-down", what=what, where=host.name, next_step=step))


def _warn_of_lost(host: HostRun, lost: Mapping[str, str]) -> None:
    """Warn of modules of others, such as GDRCopy's or GPUDirect Storage's, that were built for the driver before."""
    for name, said in lost.items():
        what = f"the module {name} needed the driver before and does not load with this one: {said}"
        step = f"see 'dkms status' on the host, build {name} for this driver, then 'modprobe {name}'"
        host.warnings.append(Problem(code="module-lost", what=what, where=host.name, next_step=step))


def reboot(host: HostRun, why: str) -> None:
    """Reboot, with servers drained and stopped, into a kernel that has the driver; raises RackhandError."""
    settings = host.intent.settings
    limit_s = settings.driver_install_timeout_s
    _prove(host, why)
    switch.hold(host, driver.hold_s(settings))
    with host.waiting("package managers to end before the reboot", limit_s, log="reboot"):
        host.call("driver.settle", limit_s, timeout_s=inner_s(limit_s))
    host.board.phase(host.name, "reboot")
    with host.waiting("reboot", settings.driver_reboot_timeout_s):
        host.session.reboot(settings.driver_reboot_timeout_s)
    if wrong := _arrived(host):
        next_step = "see 'dkms status' and 'dmesg | grep -i nvidia' on the host; rackhand reboots it once per run"
        raise host.error("driver-not-loaded", f"after a reboot it has {wrong}", next_step)


def _arrived(host: HostRun) -> str:
    """Say what of the driver is not of the planned version once the boot has loaded it; empty where all is."""
    deadline = time.monotonic() + ARRIVAL_S
    host.changed()
    while not host.survey().driver.loaded and time.monotonic() < deadline:
        time.sleep(ARRIVAL_POLL_S)
        host.changed()
    return activation.apart(host.survey(), host.planned.driver.version)


def _prove(host: HostRun, why: str) -> None:
    """Have the kernel that boots next find the driver; raises RackhandError where it would come up without one."""
    if lacks := _lacking(host):
        what = f"{lacks.what}; the host needs a reboot ({why}) and would come back without its GPUs"
        raise host.error(lacks.code, what, lacks.next_step)


def _warn(host: HostRun) -> None:
    """Say of a host that serves with its new driver that the kernel after the next boot would not have it."""
    kernel = host.survey().ground.coming
    if kernel and kernel.module != host.planned.driver.version and (lacks := _lacking(host)):
        host.warnings.append(lacks)


def _lacking(host: HostRun) -> Problem | None:
    """Have what is missing for the kernel that boots next built, and say what still is."""
    version, limit_s = host.planned.driver.version, host.intent.settings.driver_install_timeout_s
    wanted = {"version": version, "nouveau": host.survey().driver.nouveau}
    with host.waiting("the next kernel's module", limit_s, log="driver-boot"):
        found = host.call("driver_boot.ready", limit_s, **wanted, timeout_s=inner_s(limit_s))
    if found["module"] == version:
        return None
    has = f"{found['module']} instead of {version}" if found["module"] else f"no module of {version}"
    packages = host.planned.driver.packages
    built = packages.ready_built(found["release"]) if packages else ()
    dkms = f"install the headers of {found['release']} and see 'dkms status' on the host, then run again"
    step = f"install {', '.join(built)} on the host, then run again" if built else dkms
    what = f"the kernel {found['release']} boots next and has {has}"
    return Problem(code="module-missing", what=what, where=host.name, next_step=step)
