"""Which of the installed packages a planned driver replaces. Pure."""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from rackhand.catalog import DriverSet
from rackhand.driver.origin import BRANCH

# The flavour that a planned open module replaces.
PROPRIETARY = re.compile(r"nvidia-(dkms|kernel-source|driver|headless[\w-]*?)-\d{3}(-server)?$|nvidia-(kernel-)?dkms$")
# Signatures of modules of every branch: they go with their kernel.
OF_KERNELS = re.compile(r"linux-signatures-nvidia-")


def replaced(installed: Iterable[str], packages: DriverSet) -> Iterator[str]:
    """Yield installed packages that go: of another branch's name, of the other flavour, or of no name of this set."""
    patterns = (*packages.pinned, *packages.beside, *_ready_built(packages))
    for name in installed:
        if OF_KERNELS.match(name):
            continue
        number = BRANCH.search(name)
        other = number is not None and number[1] != packages.branch
        known = any(fnmatchcase(name, pattern) for pattern in patterns)
        if other or not known or (PROPRIETARY.match(name) and name not in packages.install):
            yield name


def _ready_built(packages: DriverSet) -> Iterator[str]:
    """Yield the patterns of the distribution's modules for whichever kernel: whole, and the part that is linked."""
    for modules in packages.ready_built("*"):
        yield modules
        yield modules.replace("-modules-", "-objects-", 1)
