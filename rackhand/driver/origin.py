"""Who packaged the driver that is installed: told by names and versions that only one of the two worlds has. Pure."""

import re
from collections.abc import Mapping

from rackhand.catalog import Origin

# Numbered and named alike by both, or by neither as a driver is.
UNTOLD = re.compile(r"nvidia-(modprobe|persistenced|settings|xconfig|prime)$")
DEBIANS = re.compile(r"nvidia-(alternative|smi|open-kernel-)")
DEBIANS_VERSION = re.compile(r"~deb\d+u\d+$")
NVIDIAS_ON_DEBIAN = re.compile(
    r"nvidia-(kernel-open-dkms|driver-cuda|open|fabricmanager|imex)$|cuda-drivers|libnvidia-nscq$"
)
UBUNTUS = re.compile(r".*-server\b|linux-(modules|objects|signatures)-nvidia-")
# Ubuntu's updates name the release that they are for: -0ubuntu0.24.04.1
UBUNTUS_VERSION = re.compile(r"-0ubuntu0\.\d\d\.\d\d")
# RPM Fusion's, and the modules that Red Hat and AlmaLinux build and sign.
RED_HATS = re.compile(r"xorg-x11-drv-nvidia|a?kmod-nvidia(?!-(open|latest)-dkms$)|nvidia-open-kmod")
NVIDIAS_RPMS = re.compile(r"kmod-nvidia-(open|latest)-dkms$|cuda-drivers|nvidia-open$|nvidia-kmod-common$")
BRANCH = re.compile(r"-(\d{3})(?=-|$)")
FIRST_WITHOUT_BRANCH = 590


def origins(packages: Mapping[str, str], distribution: str) -> dict[Origin, tuple[str, ...]]:
    """Return the packages of each origin, name → version in; those that tell nothing are left out."""
    tell = TELLERS.get(distribution)
    if tell is None:
        return {}
    told = {name: tell(name, version) for name, version in packages.items() if not UNTOLD.match(name)}
    return {
        origin: tuple(sorted(name for name, whose in told.items() if whose is origin))
        for origin in Origin
        if origin in told.values()
    }


def _on_debian(name: str, version: str) -> Origin | None:
    if NVIDIAS_ON_DEBIAN.match(name):
        return Origin.NVIDIA
    return Origin.DISTRIBUTION if DEBIANS.match(name) or DEBIANS_VERSION.search(version) else None


def _on_ubuntu(name: str, version: str) -> Origin | None:
    if UBUNTUS.match(name) or UBUNTUS_VERSION.search(version):
        return Origin.DISTRIBUTION
    branch = BRANCH.search(name)
    if branch is None:
        return Origin.NVIDIA if name.startswith(("libnvidia-", "nvidia-")) else None
    # Since branch 590 only Ubuntu writes the branch into the names.
    return Origin.DISTRIBUTION if int(branch[1]) >= FIRST_WITHOUT_BRANCH else Origin.NVIDIA


def _on_red_hat(name: str, version: str) -> Origin | None:
    if RED_HATS.match(name):
        return Origin.DISTRIBUTION
    return Origin.NVIDIA if NVIDIAS_RPMS.match(name) else None


TELLERS = {
    "debian": _on_debian,
    "ubuntu": _on_ubuntu,
    **dict.fromkeys(("rhel", "rocky", "almalinux"), _on_red_hat),
}
