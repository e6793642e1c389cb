"""The driver that is installed becomes the one that is loaded."""

from rackhand.operations import Change
from rackhand.run import HostRun
from rackhand.session import inner_s
from tasks import driver, switch


def activate(host: HostRun) -> Change | None:
    """Reboot when the loaded module is not the installed one, and read the facts again afterwards."""
    seen = host.survey()
    if host.planned.driver.packages is None or seen.driver.ready:
        return None
    if not host.live and driver.install(host) is not None:
        return None  # what is loaded says nothing before the packages are there
    settings = host.intent.settings
    loaded, library = seen.driver.loaded or "no driver", seen.driver.library or "none"
    if not settings.driver_reboot_allowed:
        raise host.error(
            "reboot-needed",
            f"{loaded} is loaded and {library} is installed, and driver_reboot_allowed is False",
            "reboot the host in its maintenance window, or set driver_reboot_allowed = True; then run again",
        )

    summary = f"reboot: {loaded} is loaded, {library} is installed"
    return Change(summary=summary, apply=lambda: _reboot(host), together=True)


def _reboot(host: HostRun) -> None:
    settings = host.intent.settings
    limit_s = settings.driver_install_timeout_s
    switch.hold(host, driver.hold_s(settings))
    with host.waiting("package managers to end before the reboot", limit_s, log="reboot"):
        host.call("driver.settle", limit_s, timeout_s=inner_s(limit_s))
    host.board.phase(host.name, "reboot")
    with host.waiting("reboot", settings.driver_reboot_timeout_s):
        host.session.reboot(settings.driver_reboot_timeout_s)
    host.changed()
    after = host.survey().driver
    if not after.ready:
        what = f"after a reboot {after.loaded or 'no driver'} is loaded and {after.library or 'none'} is installed"
        next_step = "see 'dkms status' and 'dmesg | grep -i nvidia' on the host; rackhand reboots it once per run"
        raise host.error("driver-not-loaded", what, next_step)
    host.note("reboot", loaded=after.loaded)
