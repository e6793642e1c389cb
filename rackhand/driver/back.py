"""The driver of a release that a host goes back to: put back where its packages are stored, left as it is, or why not.

Pure.
"""

from rackhand.driver import activation
from rackhand.driver.activation import Way
from rackhand.outcome import Problem
from rackhand.plan import DriverPlan
from rackhand.settings import Settings
from rackhand.survey import Survey


def differs(survey: Survey, version: str) -> bool:
    """Tell whether another driver is loaded than the one that a release ran with, as far as that is known."""
    return bool(survey.driver.loaded and version) and survey.driver.loaded != version


def moves(survey: Survey, version: str, settings: Settings) -> bool:
    """Tell whether the driver has to go back with its release: on hosts where rackhand keeps sets of its packages."""
    return settings.driver_manage and bool(survey.driver_sets.sets) and differs(survey, version)


def refusal(host: str, survey: Survey, version: str, settings: Settings) -> Problem | None:
    """Return why the driver cannot go back though it has to."""
    if not moves(survey, version, settings):
        return None
    loaded = survey.driver.loaded
    if not survey.driver_sets.has(version, ()):
        stored = ", ".join(sorted({each.version for each in survey.driver_sets.sets.values()}))
        what = f"the release ran with driver {version}, and the host has the packages of {stored} alone"
        step = (
            f"leave driver {loaded} as it is with --data driver_manage=false, or deploy with driver_version {version}"
        )
        return Problem(code="driver-not-stored", what=what, where=host, next_step=step)
    way = activation.decide(survey, _stored(version), installs=True)
    if way.way is Way.REBOOT and not settings.driver_reboot_allowed:
        change = f"the release ran with driver {version}, {loaded} is loaded, which only a reboot changes ({way.why})"
        what = f"{change}, and driver_reboot_allowed is False"
        step = "set driver_reboot_allowed = True, or leave the driver as it is with --data driver_manage=false"
        return Problem(code="reboot-needed", what=what, where=host, next_step=step)
    return None


def plan(survey: Survey, version: str, settings: Settings) -> DriverPlan:
    """Return the driver that a release is to run on."""
    loaded = survey.driver.loaded or ""
    if not moves(survey, version, settings):
        words = f"driver {loaded or 'none'} is left as it is"
        return DriverPlan(version=loaded, packages=None, words=(words,))
    way = activation.decide(survey, _stored(version), installs=True)
    words = f"driver {loaded} → {version}, from the packages that are stored here; {way.words}"
    return _stored(version, words)


def _stored(version: str, *words: str) -> DriverPlan:
    return DriverPlan(version=version, packages=None, stored=True, words=words)
