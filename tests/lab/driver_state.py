"""What a practice host says about its driver, and what somebody with apt does to it."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from rackhand.lab.host import LabHost

OLD, NEW, NEWEST = "580.95.05", "580.126.20", "595.91.07"


def versions(host: LabHost) -> dict[str, str]:
    """Return the driver versions of the installed packages; what is half-installed has its state for a version."""
    listing = host.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status} ${Version}\n", "*nvidia*", "libcuda*"]
    )
    rows = [line.split() for line in listing.stdout.splitlines()]
    found = {row[0]: row[2].split("-")[0] if row[1] == "installed" else row[1] for row in rows if len(row) == 3}
    return {name: version for name, version in found.items() if version != "config-files"}


def nvml(host: LabHost) -> str:
    return host.run(["nvidia-smi"]).stdout


def loaded(host: LabHost) -> str:
    return host.run(["cat", "/sys/module/nvidia/version"]).stdout.strip()


def held(host: LabHost) -> set[str]:
    return set(host.run(["apt-mark", "showhold"]).stdout.split())


def behind_our_back(host: LabHost, version: str) -> None:
    """Upgrade as somebody with apt would who means it."""
    wanted = [f"{name}={version}-1" for name in versions(host)]
    options = ["-y", "--allow-change-held-packages", "--allow-downgrades"]
    done = host.run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", *options, *wanted])
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def no_unloading(host: LabHost) -> Iterator[None]:
    """Have the kernel of a host, until its next boot, as one that was built without unloading of modules."""
    count = "/sys/module/nvidia/refcnt"
    host.run(["mv", count, "/run/refcnt"])
    try:
        yield
    finally:
        host.run(["sh", "-c", f"[ ! -e /run/refcnt ] || mv /run/refcnt {count}"])


@contextlib.contextmanager
def boots_of(host: LabHost) -> Iterator[list[str]]:
    """Collect the boot ids of a host while the body runs, the one from before first."""
    # A host that is only just being set up still shows the boot id of the machine around it.
    here = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    seen, over = [host.boot_id or ""], threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            now = host.boot_id
            if now is not None and now not in (here, seen[-1]):
                seen.append(now)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
