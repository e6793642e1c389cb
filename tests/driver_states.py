"""What hosts have of a driver before we come: the packages of every origin, branch and flavour, as they are listed.

Names as on public hosts and in the package lists of the distributions: NVIDIA's for Debian and Ubuntu (before and since
590), Ubuntu's -server-open and its desktop set, Debian's own.
"""

from collections.abc import Mapping
from typing import Any

from tests.driver_hosts import SYSTEMS

OLD, NEW, NEXT = "580.126.20", "580.178.04", "595.91.07"
DEBIAN = (
    "nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-modprobe", "nvidia-persistenced", "libcuda1",
    "libcudadebugger1", "libnvidia-cfg1", "libnvidia-gpucomp", "libnvidia-ml1", "libnvidia-nvvm4", "libnvidia-nvvm704",
    "libnvidia-pkcs11-openssl3", "libnvidia-ptxjitcompiler1", "libnvidia-sandboxutils", "nvidia-opencl-icd",
    "firmware-nvidia-gsp", "nvidia-kernel-support",
)  # fmt: skip
UBUNTU_580 = (
    "libnvidia-compute-580", "nvidia-dkms-580-open", "nvidia-utils-580", "nvidia-modprobe", "nvidia-persistenced",
    "libnvidia-gpucomp-580", "libnvidia-cfg1-580", "nvidia-firmware-580", "nvidia-kernel-common-580",
    "nvidia-kernel-source-580-open",
)  # fmt: skip
UBUNTU_595 = (
    "libnvidia-compute", "nvidia-dkms-open", "nvidia-modprobe", "nvidia-persistenced", "libnvidia-gpucomp",
    "libnvidia-cfg1", "nvidia-firmware", "nvidia-kernel-common",
)  # fmt: skip
SERVER = (
    "nvidia-headless-no-dkms-{b}-server-open", "libnvidia-compute-{b}-server", "nvidia-compute-utils-{b}-server",
    "nvidia-utils-{b}-server", "libnvidia-cfg1-{b}-server", "libnvidia-gpucomp-{b}-server",
    "nvidia-kernel-common-{b}-server", "nvidia-kernel-source-{b}-server-open", "nvidia-firmware-{b}-server-{v}",
)  # fmt: skip
OF_KERNEL = ("linux-modules-nvidia-{b}-server-open-{k}", "linux-objects-nvidia-{b}-server-open-{k}")
DESKTOP = ("nvidia-driver-580", "nvidia-dkms-580", "libnvidia-compute-580", "nvidia-utils-580", "libnvidia-gl-580")
RED_HAT = (
    "nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-modprobe", "nvidia-persistenced", "nvidia-driver-cuda-libs",
    "nvidia-kmod-common", "libnvidia-cfg", "libnvidia-gpucomp", "libnvidia-ml",
)  # fmt: skip
FUSION = ("akmod-nvidia", "xorg-x11-drv-nvidia", "xorg-x11-drv-nvidia-cuda", "xorg-x11-drv-nvidia-cuda-libs")
OF_RPM = ("rhel", "almalinux")
DEBIANS = ("nvidia-driver", "nvidia-kernel-dkms", "nvidia-alternative", "libcuda1", "nvidia-smi", "libnvidia-ml1")


def nvidias(system: str, version: str) -> dict[str, str]:
    """Return NVIDIA's packages of a version on a release, with what they bring."""
    if system.startswith("debian"):
        return {name: f"{version}-1" for name in DEBIAN}
    if system.startswith(OF_RPM):
        return {name: f"3:{version}-1.el9" for name in RED_HAT}
    names = UBUNTU_580 if version.startswith("580") else UBUNTU_595
    return {name: f"{version}-1ubuntu1" for name in names}


def servers(system: str, version: str) -> dict[str, str]:
    """Return Ubuntu's own packages of a version, ready-built for the kernel of a release; none elsewhere."""
    if not system.startswith("ubuntu"):
        return {}
    kernel = SYSTEMS[system]["kernel"]
    branch = version.partition(".")[0]
    ubuntus = f"{version}-0ubuntu0.{system.split('-')[1]}.1"
    members = {name.format(b=branch, v=version): ubuntus for name in SERVER}
    of_kernel = {name.format(b=branch, k=kernel): "6.8.0-90.91" for name in OF_KERNEL}
    kinds = f"linux-modules-nvidia-{branch}-server-open-{SYSTEMS[system]['meta']}"
    return {**members, **of_kernel, kinds: "6.8.0-90.91", f"linux-signatures-nvidia-{kernel}": "6.8.0-90.91"}


def proprietary(system: str) -> dict[str, str]:
    """Return what somebody has who took the other flavour, of NVIDIA's."""
    found = nvidias(system, OLD)
    if system.startswith("debian"):
        return {
            **without(found, "nvidia-kernel-open-dkms"),
            "nvidia-kernel-dkms": f"{OLD}-1",
            "nvidia-driver": f"{OLD}-1",
        }
    if system.startswith(OF_RPM):
        return {**without(found, "kmod-nvidia-open-dkms"), "kmod-nvidia-latest-dkms": f"3:{OLD}-1.el9"}
    mine = {"nvidia-dkms-580", "nvidia-driver-580", "nvidia-kernel-source-580"}
    kept = without(found, "nvidia-dkms-580-open", "nvidia-kernel-source-580-open")
    return {**kept, **dict.fromkeys(mine, f"{OLD}-1ubuntu1")}


def distributions(system: str) -> dict[str, str]:
    """Return the packages that a release, or RPM Fusion for it, offers to people with a screen."""
    if system.startswith("debian"):
        return dict.fromkeys(DEBIANS, "535.261.03-1~deb12u1")
    if system.startswith(OF_RPM):
        return dict.fromkeys(FUSION, "3:580.105.08-1.el9")
    return dict.fromkeys(DESKTOP, f"580.126.09-0ubuntu0.{system.split('-')[1]}.2")


def without(packages: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: version for name, version in packages.items() if name not in names}


def states(system: str) -> dict[str, dict[str, Any]]:
    """Return hosts of a release by what is on them, as arguments of tests.driver_hosts.host."""
    old, newer = nvidias(system, OLD), nvidias(system, NEXT)
    torn = {**old, "nvidia-persistenced": f"{NEW}-1"}
    missing = without(old, "nvidia-modprobe", "nvidia-persistenced")
    return {
        "nothing": {},
        "580 of NVIDIA": {"installed": old, "loaded": OLD},
        "595 of NVIDIA": {"installed": newer, "loaded": NEXT},
        "580 of NVIDIA, a member missing": {"installed": missing, "loaded": OLD},
        "580 of NVIDIA, a member newer": {"installed": torn, "loaded": OLD},
        "580 of NVIDIA, half-configured": {"installed": old, "packages__unfinished": ["nvidia-modprobe"]},
        "580 of NVIDIA, never loaded": {"installed": old},
        "580 of NVIDIA, proprietary": {
            "installed": proprietary(system), "loaded": OLD, "driver__flavour": "proprietary",
        },
        "580 of the server set": {"installed": servers(system, OLD), "loaded": OLD},
        "the distribution's own": {"installed": distributions(system), "loaded": "580.126.09"},
    }  # fmt: skip
