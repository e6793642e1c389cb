"""What a package manager is to make of the driver's packages in one transaction."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Exchange(NamedTuple):
    """Packages to have: `named` by name and version, `files`, `beside` in any version; and `gone` ones.

    Offline, only what is installed and the files count. `pin` is the text that is to rule apt's choice meanwhile.
    """

    named: dict[str, str]
    gone: list[str]
    files: tuple[Path, ...] = ()
    beside: tuple[str, ...] = ()
    offline: bool = True
    pin: str = ""

    @property
    def empty(self) -> bool:
        return not (self.files or self.beside or self.gone) and (self.offline or not self.named)


class Outcome(NamedTuple):
    """What a transaction would do: packages that come, with their versions, and those that go."""

    comes: dict[str, str]
    goes: list[str]
