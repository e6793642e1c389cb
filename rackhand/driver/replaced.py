"""Which of the installed packages a planned driver replaces. Pure."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from rackhand.catalog import DriverSet
from rackhand.driver.origin import BRANCH
from rackhand.remote.dpkg import upstream

# The flavour that a planned open module replaces.
PROPRIETARY = re.compile(
    r"nvidia-(dkms|kernel-source|driver|headless[\w-]*?)-\d{3}(-server)?$|nvidia-(kernel-)?dkms$|kmod-nvidia-latest-dkms$"
)
# Their signatures are those of every branch, and go with their kernel.
MODULES = re.compile(r"linux-(modules|objects)-nvidia-")
NAMED = re.compile(r"-(\d{3}\.\d+(?:\.\d+)?)$")
DRIVER = re.compile(r"\d{3}\.\d+")


def replaced(installed: Mapping[str, str], packages: DriverSet, version: str) -> Iterator[str]:
    """Yield installed packages that go, of name → version: another branch's, the other flavour's, or none of this set.

    Ubuntu writes the driver's `version` into the name of its firmware: the old one goes with every change. What carries
    no driver's version (nvidia-prime) is no part of any driver, but for modules, which carry kernels'.
    """
    patterns = (*packages.pinned, *packages.beside, *_ready_built(packages))
    for name, entry in installed.items():
        if not (MODULES.match(name) or DRIVER.match(upstream(entry))):
            continue
        number = BRANCH.search(name)
        other = number is not None and number[1] != packages.branch
        known = any(fnmatchcase(name, pattern) for pattern in patterns)
        older = (named := NAMED.search(name)) is not None and named[1] != version
        if other or older or not known or (PROPRIETARY.match(name) and name not in packages.install):
            yield name


def _ready_built(packages: DriverSet) -> Iterator[str]:
    """Yield the patterns of the distribution's modules for whichever kernel: whole, and the part that is linked."""
    for modules in packages.ready_built("*"):
        yield modules
        yield modules.replace("-modules-", "-objects-", 1)
