"""The NVIDIA driver: installed at exactly the planned version, pinned, held, and loaded."""

import re

from rackhand.catalog import DriverSet
from rackhand.operations import Change
from rackhand.run import HostRun
from rackhand.settings import Settings
from rackhand.survey import Survey


def install(host: HostRun) -> Change | None:
    """Install, pin and hold the driver's packages unless every member already is at the planned version and on hold."""
    driver = host.planned.driver
    packages = driver.packages
    if packages is None or _installed(host.survey(), packages, driver.version):
        return None
    settings = host.intent.settings

    def apply() -> None:
        with host.waiting(f"driver {driver.version}", settings.driver_install_timeout_s, log="driver-install"):
            host.call(
                "driver.install",
                settings.driver_install_timeout_s,
                repository_url=settings.driver_repository_url or packages.repository_url,
                key_url=_key_url(packages, settings),
                fingerprint=settings.driver_key_fingerprint or packages.key_fingerprint,
                packages=list(packages.install),
                pinned=list(packages.pinned),
                services=list(packages.services),
                version=driver.version,
                timeout_s=settings.driver_install_timeout_s - 60,
            )
        host.note("driver", version=driver.version)

    return Change(summary=f"install {driver.version} ({', '.join(packages.install)}), pin and hold", apply=apply)


def activate(host: HostRun) -> Change | None:
    """Reboot when the loaded module is not the installed one, and read the facts again afterwards."""
    seen = host.survey()
    if host.planned.driver.packages is None or not host.live or seen.driver.ready:
        return None
    settings = host.intent.settings
    loaded = seen.driver.loaded or "nothing"
    if not settings.driver_reboot_allowed:
        raise host.error(
            "reboot-needed",
            f"{loaded} is loaded and {seen.driver.library} installed",
            "reboot the host, or set driver_reboot_allowed = True",
        )

    def apply() -> None:
        with host.waiting("reboot", settings.driver_reboot_timeout_s):
            host.session.reboot(settings.driver_reboot_timeout_s)
        host.changed()
        after = host.survey().driver
        if not after.ready:
            what = f"after the reboot {after.loaded or 'nothing'} is loaded and {after.library or 'nothing'} installed"
            raise host.error("driver-not-loaded", what, "look at 'dkms status' and the kernel log on the host")
        host.note("reboot", loaded=after.loaded)

    return Change(summary=f"reboot: {loaded} is loaded, {seen.driver.library} is installed", apply=apply)


def _installed(seen: Survey, packages: DriverSet, version: str) -> bool:
    have = seen.packages.installed
    return all(_upstream(have.get(name, "")) == version and name in seen.packages.held for name in packages.install)


def _upstream(package_version: str) -> str:
    """Strip epoch and Debian revision: `1:580.95.05-1` is driver 580.95.05."""
    return re.split(r"[-~+]", package_version.split(":", 1)[-1])[0]


def _key_url(packages: DriverSet, settings: Settings) -> str:
    """Find the key beside the packages; NVIDIA names the file after the end of the key's fingerprint."""
    mirror, fingerprint = settings.driver_repository_url, settings.driver_key_fingerprint
    name = f"{fingerprint[-8:].lower()}.pub" if fingerprint else packages.key_url.rpartition("/")[2]
    return f"{mirror or packages.repository_url}/{name}"
