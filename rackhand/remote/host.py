"""What the operating system says about itself: release, kernel, memory, disks, ports, locks. Read-only."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

APT_LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
)
LISTEN = "0A"


def identity() -> dict[str, Any]:
    """Name the distribution, kernel, Python and boot of this host."""
    release = _os_release()
    return {
        "hostname": platform.node(),
        "distribution": release.get("ID", "unknown"),
        "version": release.get("VERSION_ID", ""),
        "pretty": release.get("PRETTY_NAME", "unknown system"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "glibc": platform.libc_ver()[1],
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "systemd": Path("/run/systemd/system").is_dir(),
        "secure_boot": _secure_boot(),
    }


def _os_release() -> dict[str, str]:
    path = Path("/etc/os-release")
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {key: value.strip().strip('"') for key, value in pairs}


def _secure_boot() -> bool | None:
    for variable in Path("/sys/firmware/efi/efivars").glob("SecureBoot-8be4df61-*"):
        return variable.read_bytes()[-1] == 1
    return False if Path("/proc/1").exists() else None


def resources(root: str) -> dict[str, int]:
    """Measure free space where `root` is or will be, memory and shared memory, in MiB."""
    place = Path(root)
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    shm = os.statvfs("/dev/shm") if Path("/dev/shm").is_dir() else None
    return {
        "disk_free_mib": usage.free >> 20,
        "disk_total_mib": usage.total >> 20,
        "memory_mib": int(memory.group(1)) >> 10 if memory else 0,
        "shm_mib": (shm.f_blocks * shm.f_frsize) >> 20 if shm else 0,
    }


def listeners(ports: list[int]) -> list[dict[str, Any]]:
    """Say who listens on the given TCP ports: port, pid, command, systemd unit."""
    inodes: dict[str, int] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            fields = line.split()
            port = int(fields[1].rsplit(":", 1)[1], 16)
            if fields[3] == LISTEN and port in ports:
                inodes[fields[9]] = port
    owners = _socket_owners(set(inodes)) if inodes else {}
    found = {(port, owners.get(inode, 0)) for inode, port in inodes.items()}
    return [{"port": port, **process(pid)} for port, pid in sorted(found)]


def _socket_owners(inodes: set[str]) -> dict[str, int]:
    owners: dict[str, int] = {}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            owners[target[8:-1]] = int(link.parts[2])
    return owners


def process(pid: int) -> dict[str, Any]:
    """Name a process: pid, command, systemd unit (empty when it is gone)."""
    try:
        command = Path(f"/proc/{pid}/comm").read_text().strip()
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return {"pid": pid, "command": "", "unit": ""}
    units = re.findall(r"([^/\n]+\.(?:service|scope))", groups)
    return {"pid": pid, "command": command, "unit": units[-1] if units else ""}


def apt_lock_holder() -> dict[str, Any] | None:
    """Say which process holds one of the locks of apt, dpkg or rpm, without taking any."""
    for path in APT_LOCKS:
        if not Path(path).exists():
            continue
        with Path(path).open("r+b") as lock:
            # struct flock on Linux x86-64 and aarch64: l_type, l_whence, l_start, l_len, l_pid
            query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            answer = struct.unpack("hhqqi4x", fcntl.fcntl(lock, fcntl.F_GETLK, query))
        if answer[0] != fcntl.F_UNLCK:
            return {"path": path, **process(answer[4])}
    return None
