"""platforms.yaml: the services and kernel modules that a host needs beside the driver, by what joins its GPUs."""

from functools import cache
from typing import Annotated

from pydantic import Field

from rackhand.catalog.book import HERE, Book, Entry, read
from rackhand.catalog.drivers import Platform


class Part(Entry):
    """A service or a kernel module, and the platforms that need it; nowhere else does it run."""

    name: str
    platforms: Annotated[tuple[Platform, ...], Field(min_length=1)]


class PlatformBook(Book):
    """The whole file; services stand in the order in which they start."""

    services: tuple[Part, ...]
    modules: tuple[Part, ...]


def services(platform: Platform) -> tuple[str, ...]:
    """Return the units, without their ending, that run on a platform, in the order in which they start."""
    return tuple(part.name for part in _book().services if platform in part.platforms)


def all_services() -> tuple[str, ...]:
    """Return the units of all platforms."""
    return tuple(part.name for part in _book().services)


def modules(platform: Platform) -> tuple[str, ...]:
    """Return the kernel modules that a platform loads at boot, in order."""
    return tuple(part.name for part in _book().modules if platform in part.platforms)


@cache
def _book() -> PlatformBook:
    return read(PlatformBook, HERE / "platforms.yaml")
