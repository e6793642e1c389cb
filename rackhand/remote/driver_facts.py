"""What a driver would be put onto: packages, kernels, space, keys, the package manager's files. Read-only."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rackhand.remote import apt_files, driver_files, kernels, rpm_facts

PLACES = ("/", "/boot", "/usr", "/var")
# Whoever packaged it; what NVIDIA numbers apart from its drivers is left out, as are tools of a distribution.
NVIDIA = re.compile(
    r"(lib)?nvidia-|libcuda1$|libcudadebugger1$|libnvcuvid1$|libnvoptix1$|libnvsdm|nvlsm$|firmware-nvidia-"
    r"|linux-modules-nvidia-|linux-(objects|signatures)-nvidia-|cuda-drivers|xserver-xorg-video-nvidia"
    r"|a?kmod-nvidia|xorg-x11-(drv-)?nvidia"
)
APART = re.compile(
    r"(lib)?nvidia-(container|egl|vaapi|driver-pinning|driver-assistant|cuda-|fs\b|gds\b"
    r"|(ml|opencl)-dev$|(visual-)?profiler$|cudnn|cg-|openjdk-|texture-tools$)"
)
# The keys with which dkms signs what it builds: Ubuntu's, Debian's.
KEYS = ("var/lib/shim-signed/mok/MOK.der", "var/lib/dkms/mok.pub")
READY_BUILT = "linux-modules-nvidia-"
BUILT_FOR = re.compile(r"linux-modules-nvidia-\d+(?:-server)?(?:-open)?-(.+)")
# Kernels for virtual machines are generic ones, and their modules are named so.
GENERIC = ("virtual", "generic")
QUIET = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")
FIELDS = ("db:Status-Status", "Package", "Version", "Depends")
SHORT_S = 30


class Row(NamedTuple):
    """One package in dpkg's words."""

    status: str
    name: str
    version: str
    depends: str


def facts(secure_boot: bool | None, root: str = "/", running: str = "") -> dict[str, Any]:
    """Return what decides about a driver besides the GPUs.

    `kernels` has `package` where the package manager knows the kernel and `meta`, the package that follows this kind
    of kernel to newer ones (linux-image-generic-hwe-24.04). `headers_offered` are missing headers that it could
    install, `modules_offered` ready-built modules of the kernels, as far as it has any lists (`listed`). `unloadable`
    tells whether the kernel lets modules go. `root` is another system's.
    """
    found = kernels.kernels(root, running)
    debian = Path(root, "var/lib/dpkg/status").exists()
    told = _told(root, found) if debian else rpm_facts.told(root, found, _driver)
    return {
        **told,
        "kernels": found,
        "unloadable": Path(root, "sys/module/nvidia/refcnt").exists(),
        "places": [_place(root, name) for name in PLACES],
        "ours": driver_files.left(root),
        "key_enrolled": _enrolled(root) if secure_boot else None,
    }


def _told(root: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what dpkg and apt know of a driver, and of the kernels."""
    rows = _rows(root)
    images = {row.name for row in rows if row.status == "installed"}
    for kernel in found:
        kernel["package"] = f"linux-image-{kernel['release']}" in images
        kernel["meta"] = _meta(rows, str(kernel["release"]))
    return {
        "packages": {row.name: row.version for row in rows if _driver(row.name) and row.status != "config-files"},
        "listed": any(Path(root, "var/lib/apt/lists").glob("*Packages*")),
        "headers_offered": _offered([name for kernel in found for name in _missing_headers(kernel)]),
        "modules_offered": _ready_built(found),
        "sources": apt_files.sources(root),
        "preferences": apt_files.preferences(root),
    }


def _rows(root: str) -> list[Row]:
    query = "|".join(f"${{{name}}}" for name in FIELDS) + "\n"
    folder = str(Path(root, "var/lib/dpkg"))
    listing = _output("dpkg-query", f"--admindir={folder}", "-W", "-f", query)
    rows = [Row(*line.split("|", 3)) for line in listing.splitlines() if line.count("|") >= 3]
    return [row for row in rows if row.status != "not-installed"]


def _driver(name: str) -> bool:
    return bool(NVIDIA.match(name)) and not APART.match(name)


def _meta(rows: Sequence[Row], release: str) -> str:
    """Name the package that follows this kind of kernel to newer ones: linux-image-generic-hwe-24.04; empty without."""
    metas = [row for row in rows if re.match(r"linux-image-(?!\d|unsigned-)", row.name) and row.status == "installed"]
    named = re.compile(rf"\blinux-image-(?:unsigned-)?{re.escape(release)}(?![\w.+~-])")
    return next((row.name for row in metas if named.search(row.depends)), "")


def _missing_headers(kernel: dict[str, Any]) -> list[str]:
    """Name the headers that a kernel of the distribution lacks: nobody offers those of a kernel of one's own."""
    return [f"linux-headers-{kernel['release']}"] if kernel["package"] and not kernel["headers"] else []


def _offered(names: Sequence[str]) -> list[str]:
    """Return those of the names that apt could install, without writing its caches."""
    listing = _output("apt-cache", *QUIET, "madison", *names) if names else ""
    return sorted({line.split("|")[0].strip() for line in listing.splitlines() if line.count("|") >= 2})


def _ready_built(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the packages that the distribution built for these kernels and their kinds, of whichever branch."""
    known = [kernel for kernel in found if kernel["package"]]
    kinds = {str(kernel["meta"]).removeprefix("linux-image-") for kernel in known if kernel["meta"]}
    names = {*(str(kernel["release"]) for kernel in known), *kinds, *(kind.replace(*GENERIC, 1) for kind in kinds)}
    listing = _output("apt-cache", *QUIET, "pkgnames", READY_BUILT) if names else ""
    return sorted(name for name in listing.split() if (built := BUILT_FOR.match(name)) and built[1] in names)


def _place(root: str, name: str) -> dict[str, Any]:
    path = Path(root, name.lstrip("/"))
    while not path.exists():
        path = path.parent
    usage = os.statvfs(path)
    return {"path": name, "device": path.stat().st_dev, "free_mib": (usage.f_bavail * usage.f_frsize) >> 20}


def _enrolled(root: str) -> bool | None:
    """Say whether the firmware trusts the key that dkms signs with; None without a key, or where nobody can tell."""
    key = next((path for name in KEYS if (path := Path(root, name)).exists()), None)
    said = _output("mokutil", "--test-key", str(key)).strip() if key else ""
    return {"already enrolled": True, "not enrolled": False}.get(" ".join(said.split()[-2:]))


def _output(*command: str) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=SHORT_S
        ).stdout
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
