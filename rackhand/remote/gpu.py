"""What the buses, the kernel and the packages say about GPUs and their driver. Read-only, needs no driver."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from rackhand.remote import dpkg, packager

NVIDIA = "0x10de"
CLASSES = ("0x0300", "0x0302")
LIBRARY = "libnvidia-ml.so.1"
FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
FIELDS = ("vendor", "device", "class", "subsystem_vendor", "subsystem_device")


def pci() -> list[dict[str, Any]]:
    """List NVIDIA's PCI functions (GPUs and NVSwitches alike) from sysfs."""
    devices = []
    for path in sorted(Path("/sys/bus/pci/devices").glob("*")):
        values = {name: _read(path / name) for name in FIELDS}
        if values["vendor"] != NVIDIA:
            continue
        driver = path / "driver"
        devices.append(
            {
                "address": path.name,
                "device_class": values.pop("class"),
                "driver": driver.readlink().name if driver.is_symlink() else "",
                "numa_node": int(_read(path / "numa_node") or "-1"),
                **values,
            }
        )
    return devices


def cards() -> set[str]:
    """Name the GPUs on the bus by address, except those of virtual machines, which are not the driver's."""
    found = [each for each in pci() if each["device_class"].startswith(CLASSES)]
    return {each["address"] for each in found if each["driver"] in ("", "nvidia")}


def nodes(root: str = "/sys/devices/system/node") -> list[dict[str, Any]]:
    """List the NUMA nodes that have CPUs: number, CPU list, memory in MiB. Memory on a GPU can be a node without."""
    found = []
    for path in sorted(Path(root).glob("node[0-9]*"), key=lambda path: int(path.name[4:])):
        cpus = _read(path / "cpulist")
        memory = re.search(r"MemTotal:\s+(\d+) kB", _read(path / "meminfo"))
        if cpus:
            mib = int(memory.group(1)) >> 10 if memory else 0
            found.append({"node": int(path.name[4:]), "cpus": cpus, "memory_mib": mib})
    return found


def driver() -> dict[str, Any]:
    """Say which driver is loaded and which library is installed; absence is None."""
    text = _read(Path("/proc/driver/nvidia/version"))
    loaded = re.search(r"x86_64\s+(\d+\.[\d.]+)|aarch64\s+(\d+\.[\d.]+)|Kernel Module\s+(\d+\.[\d.]+)", text)
    return {
        "loaded": next((group for group in loaded.groups() if group), None) if loaded else None,
        "flavour": "open" if "Open Kernel Module" in text else ("proprietary" if loaded else ""),
        "library": _library_version(),
        "nouveau": Path("/sys/module/nouveau").is_dir(),
        "runfile": Path("/usr/bin/nvidia-uninstall").exists(),
    }


def _library_version() -> str | None:
    places = chain((Path(folder, LIBRARY) for folder in FOLDERS), _linked())
    link = next((path for path in places if path.exists()), None)
    found = re.search(r"\.so\.(\d+\.[\d.]+)$", str(link.resolve())) if link else None
    return found.group(1) if found else None


def _linked() -> Iterator[Path]:
    """Yield where the dynamic linker finds the library: a driver that is not from packages may lie anywhere."""
    listing = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False)
    for line in listing.stdout.splitlines():
        name, _, place = line.strip().partition(" => ")
        if name.startswith(f"{LIBRARY} (libc6,"):  # the 32-bit one is without an architecture
            yield Path(place)


def packages(names: list[str]) -> dict[str, Any]:
    """Return versions of the installed packages among `names` (shell patterns allowed).

    Beside them, of all packages: what is on hold, and what was left half installed or not configured.
    """
    here = packager.here()
    return {
        "installed": {each.name: each.version for each in here if each.whole and dpkg.belongs(each.name, names)},
        "held": [each.name for each in here if each.want == "hold"],
        "unfinished": [each.name for each in here if not each.whole],
    }


def nvml(loader: str, payload: str, limit_s: int = 60) -> dict[str, Any]:
    """Read NVML in a process of its own, because a wrong call can crash inside the library."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", loader], input=payload.encode(), capture_output=True, timeout=limit_s, check=False
        )
        answer: dict[str, Any] = json.loads(done.stdout)["result"]
    except subprocess.TimeoutExpired:
        return {"state": "hangs", "detail": f"NVML did not answer within {limit_s} s", "gpus": []}
    except (ValueError, KeyError):
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [""]
        return {
            "state": "crashed",
            "detail": f"the NVML probe ended with {done.returncode} {tail[0]}".strip(),
            "gpus": [],
        }
    return answer


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
