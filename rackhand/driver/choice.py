"""Which packages and which version of the driver a host should have. Pure."""

from collections.abc import Iterator

from rackhand.catalog import (
    DriverHost,
    DriverSet,
    Origin,
    branch_of,
    branches,
    default_branches,
    driver_packages,
    engine,
)
from rackhand.errors import RackhandError
from rackhand.seen import inventory
from rackhand.settings import Settings
from rackhand.survey import Survey

IMAGE = "linux-image-"


def packages(survey: Survey, settings: Settings) -> DriverSet:
    """Return the set of packages for this host; raises RackhandError where there is none."""
    found = driver_packages(_where(survey), branch(survey, settings), Origin(settings.driver_source))
    _refuse_unknown_key(found, settings, signed=bool(branches(_where(survey), Origin.DISTRIBUTION)))
    return found


def branch(survey: Survey, settings: Settings) -> str:
    """Return the wished branch of the driver, else a working driver's, else the best that this host can have.

    Where its GPUs or the engine can use none that it can have, the best of those is returned, or of all: the refusal
    then says why.
    """
    if settings.driver_version or settings.driver_branch:
        return settings.driver_branch or branch_of(settings.driver_version or "")
    offered = branches(_where(survey), Origin(settings.driver_source))
    possible = [name for name in (*_working(survey), *default_branches()) if name in offered]
    usable = [name for name in possible if name >= _least(settings) and _fits(name, survey)]
    return next(iter((*usable, *possible, *default_branches())))


def version(survey: Survey, settings: Settings, found: DriverSet) -> str:
    """Return the driver's version; a newer catalogue alone must not change the working driver of a fleet.

    Raises RackhandError `driver-version` where nobody knows one.
    """
    working = survey.driver.loaded if found.branch in _working(survey) else None
    chosen = settings.driver_version or working or found.latest
    if not chosen:
        raise RackhandError(
            "driver-version",
            f"no version of branch {found.branch} is known for {found.distribution}",
            "driver_version",
            "set driver_version to one that the repository has, or another driver_branch",
        )
    return chosen


def _where(survey: Survey) -> DriverHost:
    facts, kernel = survey.host, survey.ground.coming
    return DriverHost(
        distribution=facts.distribution,
        version=facts.version,
        architecture=facts.architecture,
        platform=inventory(survey).platform,
        flavour=kernel.meta.removeprefix(IMAGE) if kernel else "",
    )


def _working(survey: Survey) -> Iterator[str]:
    """Yield the branch of a driver that works."""
    if survey.driver.loaded and survey.driver.ready:
        yield branch_of(survey.driver.loaded)


def _fits(name: str, survey: Survey) -> bool:
    """Say whether a branch drives every GPU of a host."""
    cards = [gpu.card for gpu in inventory(survey).gpus]
    return all(card.min_branch <= name <= (card.max_branch or name) for card in cards)


def _least(settings: Settings) -> str:
    """Return the oldest branch that the wished engine runs on."""
    try:
        return engine(settings.engine_version).min_branch
    except RackhandError:
        return ""  # an unknown engine is refused elsewhere


def _refuse_unknown_key(found: DriverSet, settings: Settings, *, signed: bool) -> None:
    """Trust no key that nobody vouches for; `signed` says that the distribution has a driver of its own."""
    if found.key_fingerprint or settings.driver_key_fingerprint or not found.repository_url:
        return
    raise RackhandError(
        "unknown-key",
        f"nobody has published the key that signs NVIDIA's repository for {found.distribution}",
        found.distribution,
        "set driver_key_fingerprint to the key's whole fingerprint, as NVIDIA or your mirror tells it, "
        + ("or driver_source = 'distribution'" if signed else "or install the driver and set driver_manage = False"),
    )
