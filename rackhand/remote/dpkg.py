"""What dpkg knows of packages on this host: versions, states, holds, work that was cut off. Read-only."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

STATUS = Path("/var/lib/dpkg/status")
JOURNAL = Path("/var/lib/dpkg/updates")
FIELDS = ("Package", "Architecture", "db:Status-Want", "db:Status-Status", "db:Status-Eflag", "Version")
ABSENT = ("not-installed", "config-files")
WAITING = ("triggers-awaited", "triggers-pending")


class Package(NamedTuple):
    """One package as dpkg describes it; `status` and `flag` are dpkg's own words (installed, ok)."""

    name: str
    architecture: str
    want: str
    status: str
    flag: str
    version: str

    @property
    def whole(self) -> bool:
        return self.status in ("installed", *WAITING) and self.flag == "ok"

    @property
    def torn(self) -> bool:
        """Tell whether nobody knows which files of it are there: dpkg was cut off while it unpacked it."""
        return self.status == "half-installed" or self.flag != "ok"


def rules() -> bool:
    """Say whether this host's packages are dpkg's; rpm's otherwise."""
    return STATUS.exists()


def here() -> list[Package]:
    """List what is installed wholly or in part, of this machine's own architecture."""
    own = (output("dpkg", "--print-architecture").strip(), "all")
    query = "|".join(f"${{{name}}}" for name in FIELDS) + "\n"
    rows = [Package(*line.split("|")) for line in output("dpkg-query", "-W", "-f", query).splitlines()]
    return [row for row in rows if row.status not in ABSENT and row.architecture in own]


def belongs(name: str, patterns: Sequence[str]) -> bool:
    """Say whether a package's name is one of the driver's."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def interrupted() -> bool:
    """Say whether dpkg was cut off in the middle of writing down what it did."""
    return any(path.name.isdigit() for path in JOURNAL.glob("*"))


def upstream(package_version: str) -> str:
    """Strip epoch and revision: `1:580.95.05-1` is driver 580.95.05."""
    return re.split(r"[-~+]", package_version.split(":", 1)[-1])[0]


def older(version: str, other: str) -> bool:
    """Say whether a package version is older than another."""
    done = subprocess.run(["dpkg", "--compare-versions", version, "lt", other], check=False, capture_output=True)
    return done.returncode == 0


def output(*command: str) -> str:
    """Return what a command prints; nothing where it cannot be run."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError:
        return ""
    return done.stdout
