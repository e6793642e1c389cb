"""What a host says about the driver packages that it has stored (rackhand.remote.driver_journal)."""

from collections.abc import Sequence

from pydantic import Field

from rackhand.frozen import Frozen


class StoredSet(Frozen):
    """One set of driver packages: the driver's version, and the packages that are in it, those beside it among them."""

    version: str
    packages: tuple[str, ...]


class DriverSets(Frozen):
    """The sets of driver packages that are stored on the host, by name, and which of them it should have.

    `installed` is the one that is what is installed, empty where none is. `off` says in words in what the installed
    packages differ from `current`, `loose` what does not keep them there.
    """

    installed: str = ""
    current: str = ""
    previous: str = ""
    phase: str = ""
    direction: str = ""
    sets: dict[str, StoredSet] = Field(default_factory=dict)
    off: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()

    def has(self, version: str, packages: Sequence[str]) -> bool:
        """Say whether these packages of a driver version can be had without a network."""
        return any(each.version == version and set(packages) <= set(each.packages) for each in self.sets.values())

    def differs(self, version: str) -> tuple[bool, bool]:
        """Tell whether the set that the host should have, where it is of this version, is not there, or not kept."""
        current = self.sets.get(self.current)
        counts = current is not None and current.version == version
        return counts and bool(self.off), counts and bool(self.loose)
