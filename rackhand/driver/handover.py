"""What still keeps a driver where it is, on a host where rackhand managed it before and is not to any more. Pure."""

from collections.abc import Iterator

from rackhand.compiler import RED_HAT_IDS
from rackhand.naming import some
from rackhand.outcome import Problem
from rackhand.remote import driver_files
from rackhand.settings import Settings
from rackhand.survey import Survey


def warnings(host: str, survey: Survey, settings: Settings) -> Iterator[Problem]:
    """Yield what rackhand left, with the commands that remove it; nothing where it manages, or left nothing."""
    ground, held = survey.ground, survey.packages.held
    if settings.driver_manage or not ground.ours:
        return
    holds = driver_files.holds([name for name in held if name in ground.packages], held)
    on_hold = f", and {some(holds, 3)} on hold" if holds else ""
    release = "dnf versionlock delete" if survey.host.distribution in RED_HAT_IDS else "apt-mark unhold"
    free = f" && {release} {' '.join(holds)}" if holds else ""
    yield Problem(
        code="driver-still-kept",
        what=f"driver_manage is False, and rackhand still keeps the driver with {', '.join(ground.ours)}{on_hold}",
        where=host,
        next_step=f"to have others look after the driver, on the host: rm {' '.join(ground.ours)}{free}",
    )
