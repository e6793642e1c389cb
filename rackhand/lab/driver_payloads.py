"""What is inside the emulated driver packages: the libraries, the module's version, services, pins."""

from collections.abc import Callable
from pathlib import Path

from rackhand.lab import nvml
from rackhand.lab.driver_packages import Driver, Package

PARTS = Path(__file__).with_name("driver_payload")
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
# Every name of NVIDIA's that moves with the driver; the real pin files list the same families.
PINNED = "nvidia-* libnvidia-* libnvsdm libcuda1 libcudadebugger1 firmware-nvidia-gsp cuda-drivers*"
PIN_PRIORITY = 1000

LDCONFIG = "activate-noawait ldconfig\n"
ENABLE = """#!/bin/sh
set -e
if [ "$1" = configure ]; then
    systemctl enable --quiet {unit} || :
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload || :
        systemctl restart {unit} || :
    fi
fi
"""
# Like dkms: the module of the running kernel is renewed on disk; what is loaded stays loaded.
BUILD_MODULE = """#!/bin/sh
set -e
if [ "$1" = configure ] && command -v depmod >/dev/null; then
    modules=/lib/modules/$(uname -r)
    mkdir -p "$modules/updates/dkms"
    cp /usr/src/nvidia-{upstream}/nvidia.ko "$modules/updates/dkms/nvidia.ko"
    touch "$modules/modules.order" "$modules/modules.builtin" "$modules/modules.builtin.modinfo"
    depmod || :
fi
"""
REMOVE_MODULE = """#!/bin/sh
set -e
if [ "$1" = remove ]; then
    rm -f /lib/modules/*/updates/dkms/nvidia.ko
fi
"""
DKMS = """PACKAGE_NAME="nvidia"
PACKAGE_VERSION="{upstream}"
BUILT_MODULE_NAME[0]="nvidia"
DEST_MODULE_LOCATION[0]="/updates/dkms"
AUTOINSTALL="yes"
"""
NOUVEAU = "# from nvidia-kernel-support\nblacklist nouveau\noptions nouveau modeset=0\n"


def fill(root: Path, package: Package) -> None:
    """Write the payload and the maintainer scripts of `package` below `root`."""
    (root / "DEBIAN").mkdir(parents=True)
    _put(root / "usr/lib/nvidia" / package.name, f"{package.version}\n")
    for payload in package.payloads:
        WRITERS[payload](root, package.driver)


def _nvml(root: Path, driver: Driver) -> None:
    built = nvml.build(driver.upstream, driver.cuda_version)
    _library(root, built.nvml, driver)


def _cuda(root: Path, driver: Driver) -> None:
    built = nvml.build(driver.upstream, driver.cuda_version)
    _library(root, built.cuda, driver)


def _library(root: Path, library: Path, driver: Driver) -> None:
    versioned = library.name.replace(".so.1", f".so.{driver.upstream}")
    _put(root / LIBRARIES / versioned, library.read_bytes())
    (root / LIBRARIES / library.name).symlink_to(versioned)
    _put(root / "DEBIAN/triggers", LDCONFIG)


def _module(root: Path, driver: Driver) -> None:
    source = root / "usr/src" / f"nvidia-{driver.upstream}"
    _put(source / "dkms.conf", DKMS.format(upstream=driver.upstream))
    _put(source / "nvidia.ko", nvml.build_module(driver.upstream, PARTS / "module.c").read_bytes())
    _put(root / "DEBIAN/postinst", BUILD_MODULE.format(upstream=driver.upstream), mode=0o755)
    _put(root / "DEBIAN/prerm", REMOVE_MODULE, mode=0o755)


def _firmware(root: Path, driver: Driver) -> None:
    _put(root / "usr/lib/firmware/nvidia" / driver.upstream / "gsp_ga10x.bin", "emulated\n")


def _modprobe(root: Path, driver: Driver) -> None:
    _put(root / "etc/modprobe.d/nvidia.conf", NOUVEAU)


def _smi(root: Path, driver: Driver) -> None:
    _put(root / "usr/bin/nvidia-smi", (PARTS / "nvidia-smi").read_text(), mode=0o755)


def _persistenced(root: Path, driver: Driver) -> None:
    _service(root, driver, "nvidia-persistenced", "nvidia-persistenced.service")
    _put(root / "DEBIAN/postinst", ENABLE.format(unit="nvidia-persistenced.service"), mode=0o755)


def _fabricmanager(root: Path, driver: Driver) -> None:
    """Like NVIDIA's package, leave the service disabled: the operator enables it where there is a fabric."""
    _service(root, driver, "nv-fabricmanager", "nvidia-fabricmanager.service")


def _dcgm(root: Path, driver: Driver) -> None:
    _service(root, driver, "nv-hostengine", "nvidia-dcgm.service")


def _exporter(root: Path, driver: Driver) -> None:
    _service(root, driver, "dcgm-exporter", "nvidia-dcgm-exporter.service")


def _service(root: Path, driver: Driver, program: str, unit: str) -> None:
    _put(root / "usr/bin" / program, (PARTS / program).read_text().replace("@VERSION@", driver.upstream), mode=0o755)
    _put(root / "usr/lib/systemd/system" / unit, (PARTS / unit).read_text())


def _pin(root: Path, version: str) -> None:
    stanza = f"Package: {PINNED}\nPin: version {version}\nPin-Priority: {PIN_PRIORITY}\n"
    _put(root / "etc/apt/preferences.d/nvidia-driver-pin", stanza)


def _put(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)


WRITERS: dict[str, Callable[[Path, Driver], None]] = {
    "nvml": _nvml,
    "cuda": _cuda,
    "module": _module,
    "firmware": _firmware,
    "modprobe": _modprobe,
    "smi": _smi,
    "persistenced": _persistenced,
    "fabricmanager": _fabricmanager,
    "dcgm": _dcgm,
    "exporter": _exporter,
    "pin-branch": lambda root, driver: _pin(root, f"{driver.branch}.*"),
    "pin-version": lambda root, driver: _pin(root, f"{driver.upstream}-*"),
}
