"""A practice fleet for the tests: its own state, addresses and names, gone when the session ends."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab import rpm_repository
from tests.lab.rpm_host import MEMBERS, RpmHost

FreshHost = Callable[..., LabHost]
# Ten minutes of a real engine's starts: collected where it is named, and with RACKHAND_LONG=1.
collect_ignore = [] if os.environ.get("RACKHAND_LONG") else ["test_real_upgrade.py"]


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Yield the fleet that every process of this session uses, subprocesses included."""
    before = os.environ.get("RACKHAND_LAB_DIR")
    os.environ["RACKHAND_LAB_DIR"] = str(tmp_path_factory.mktemp("lab"))
    fleet = Fleet.of(CHECKOUT)
    try:
        yield fleet
    finally:
        fleet.down()
        os.environ.pop("RACKHAND_LAB_DIR")
        if before is not None:
            os.environ["RACKHAND_LAB_DIR"] = before


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    """Yield numbers that make the names of fresh hosts unique."""
    return itertools.count(1)


@pytest.fixture
def fresh_host(fleet: Fleet, numbers: Iterator[int]) -> Iterator[FreshHost]:
    """Boot hosts that no test has touched: fresh_host(personality=None, suite="bookworm"); they go after the test."""
    made: list[LabHost] = []

    def boot(personality: str | None = None, suite: str = "bookworm") -> LabHost:
        host = fleet.up(f"fresh{next(numbers)}", personality, suite)
        made.append(host)
        host.wait_ssh()
        return host

    yield boot
    for host in made:
        fleet.remove(host.name)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Callable[[str], Fleet]]:
    """Make fleets beside the session's, by directory name; they go after the test."""
    made: list[Fleet] = []

    def at(name: str) -> Fleet:
        made.append(Fleet.at(tmp_path / name))
        return made[-1]

    yield at
    for fleet in made:
        fleet.down()


@pytest.fixture(scope="session")
def rpm_repositories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the directory of the emulated rpm repositories and the key that signs NVIDIA's."""
    home = tmp_path_factory.mktemp("rpm")
    return home, rpm_repository.build(home)


@pytest.fixture
def rhel(rpm_repositories: tuple[Path, str], tmp_path: Path) -> Iterator[RpmHost]:
    """Yield a host with a kernel and nothing else; unused repositories can be renamed away in it."""
    home, fingerprint = rpm_repositories
    release = f"{rpm_repository.KERNEL}.x86_64"
    made = RpmHost(tmp_path / "host", home, fingerprint, release)
    try:
        made.run(f"dnf --quiet --assumeyes install kernel-core-{release}")
        yield made
    finally:
        made.close()


@pytest.fixture
def driven(rhel: RpmHost) -> RpmHost:
    """Return such a host with the middle one of the emulated versions."""
    assert not rhel.stage(rpm_repository.VERSIONS[1])["why"]
    assert set(rhel.put(rpm_repository.VERSIONS[1])) == MEMBERS
    return rhel
