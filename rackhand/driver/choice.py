"""Which packages and which version of the driver a host should have. Pure."""

from rackhand.catalog import DriverHost, DriverSet, Origin, branch_of, driver_packages
from rackhand.errors import RackhandError
from rackhand.seen import inventory
from rackhand.settings import Settings
from rackhand.survey import Survey

IMAGE = "linux-image-"


def packages(survey: Survey, settings: Settings) -> DriverSet:
    """Return the set of packages for this host; raises RackhandError where there is none."""
    facts, kernel = survey.host, survey.ground.coming
    where = DriverHost(
        distribution=facts.distribution,
        version=facts.version,
        architecture=facts.architecture,
        platform=inventory(survey).platform,
        flavour=kernel.meta.removeprefix(IMAGE) if kernel else "",
    )
    found = driver_packages(where, settings.driver_branch, Origin(settings.driver_source))
    _refuse_unknown_key(found, settings)
    return found


def version(survey: Survey, settings: Settings, found: DriverSet) -> str:
    """Return the driver's version; a newer catalogue alone must not change the working driver of a fleet."""
    loaded = survey.driver.loaded
    working = loaded and survey.driver.ready and branch_of(loaded) == settings.driver_branch
    return settings.driver_version or (loaded if loaded and working else found.latest)


def _refuse_unknown_key(found: DriverSet, settings: Settings) -> None:
    if found.key_fingerprint or settings.driver_key_fingerprint or not found.repository_url:
        return
    raise RackhandError(
        "unknown-key",
        f"nobody has published the key that signs NVIDIA's repository for {found.distribution}",
        found.distribution,
        "set driver_key_fingerprint to the key's whole fingerprint, as NVIDIA or your mirror tells it, "
        "or driver_source = 'distribution'",
    )
