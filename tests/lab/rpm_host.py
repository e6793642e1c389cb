"""A host of the RHEL family that is a directory: its own rpm database, dnf and files, this machine's programs."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from rackhand import payload
from rackhand.catalog import DriverHost, driver_packages, pinned_patterns

ROOT = "/opt/rackhand"
MEMBERS = {
    "kmod-nvidia-open-dkms", "libnvidia-cfg", "libnvidia-ml", "nvidia-driver-cuda", "nvidia-driver-cuda-libs",
    "nvidia-kmod-common", "nvidia-modprobe", "nvidia-persistenced",
}  # fmt: skip
REPOSITORIES = ("base", "epel")
ENTRY = "[{name}]\nname={name}\nbaseurl=file:///repositories/{name}\ngpgcheck=0\n"
TEXTS = {
    "etc/os-release": 'ID="rocky"\nVERSION_ID="9.6"\n',
    "etc/rpm/macros": "%_dbpath /var/lib/rpm\n",
    "etc/dnf/dnf.conf": "[main]\ngpgcheck=1\nbest=True\nskip_if_unavailable=False\ninstallonly_limit=3\n",
    "etc/dnf/vars/releasever": "9\n",
    "etc/dnf/plugins/versionlock.conf": "[main]\nenabled=1\nlocklist=/etc/dnf/plugins/versionlock.list\n",
    "etc/dnf/plugins/versionlock.list": "",
}
PIECES = ("bin", "sbin", "lib", "lib64")


class RpmHost:
    """Such a host at a directory; leave it with `close`."""

    def __init__(self, root: Path, repositories: Path, fingerprint: str, kernel: str) -> None:
        self.root, self.fingerprint, self.kernel = root, fingerprint, kernel
        for name in ("proc", "dev", "usr", "repositories", "tmp", "run", "var/lib/rpm", "var/log", "var/cache", "opt"):
            (root / name).mkdir(parents=True)
        for name in PIECES:
            (root / name).symlink_to(f"usr/{name}")
        entries = {f"etc/yum.repos.d/{name}.repo": ENTRY.format(name=name) for name in REPOSITORIES}
        for path, text in {**TEXTS, **entries}.items():
            self.write(path, text)
        for name in ("passwd", "group", "ld.so.cache"):
            shutil.copy(f"/etc/{name}", root / "etc" / name)
        self.mounted: list[Path] = []
        for source, place in (("/usr", "usr"), ("/proc", "proc"), ("/dev", "dev"), (str(repositories), "repositories")):
            self._mount(source, root / place)

    def _mount(self, source: str, place: Path) -> None:
        subprocess.run(["mount", "--bind", source, str(place)], check=True)
        self.mounted.append(place)

    def close(self) -> None:
        """Let go of this machine's directories, so that removing the host removes nothing else."""
        for place in reversed(self.mounted):
            subprocess.run(["umount", str(place)], check=True)

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def read(self, path: str) -> str:
        """Return a file's text."""
        return (self.root / path).read_text()

    def run(self, command: str) -> str:
        """Run a shell command and return what it said."""
        done = subprocess.run(
            ["chroot", str(self.root), "sh", "-c", command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def call(self, name: str, **arguments: Any) -> Any:
        """Call our code there as a controller does; return its result or its problem."""
        command = ["chroot", str(self.root), "/usr/bin/python3", "-c", payload.LOADER]
        text = payload.pack(name, arguments)
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        return answer.get("problem") or answer["result"]

    def cut_off(self, version: str, when: str) -> None:
        """Begin to put a stored version on, and kill everything of it once `when` succeeds."""
        packages = self.wish(version)["needs"]
        arguments = {"root": ROOT, "run": "r1", "version": version, "packages": packages, "timeout_s": 120}
        command = ["chroot", str(self.root), "/usr/bin/python3", "-c", payload.LOADER]
        begun = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert begun.stdin is not None
        begun.stdin.write(payload.pack("driver.put", arguments).encode())
        begun.stdin.close()
        deadline = time.monotonic() + 40
        while subprocess.run(["chroot", str(self.root), "sh", "-c", when], check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        for pid in _below(begun.pid):
            os.kill(pid, signal.SIGKILL)
        begun.wait(timeout=10)

    def installed(self, prefix: str = "") -> dict[str, str]:
        """Return the version and release of every package by its name."""
        listing = self.run("rpm -qa --qf '%{NAME} %{VERSION}-%{RELEASE}\\n'").split("\n")
        rows = [line.split() for line in listing if line and not line.startswith("gpg-pubkey")]
        return {name: version for name, version in rows if name.startswith(prefix)}

    def wish(self, version: str, **changes: Any) -> dict[str, Any]:
        """Return what a controller asks to be staged for a host without NVSwitches."""
        found = driver_packages(DriverHost(distribution="rocky", version="9.6"), version.partition(".")[0])
        url = "file:///repositories/nvidia"
        headers = [found.headers(self.kernel), found.follows(self.kernel, "")]
        key = f"{url}/{self.fingerprint[-8:].lower()}.pub"
        return {
            "repository_url": url, "key_url": key, "fingerprint": self.fingerprint, "packages": list(found.install),
            "beside": list(found.beside), "headers": headers,
            "needs": list(found.own), "family": list(pinned_patterns()), "services": [], "version": version, **changes,
        }  # fmt: skip

    def stage(self, version: str, **changes: Any) -> Any:
        """Store the packages of a version and of what is installed."""
        return self.call("driver.stage", root=ROOT, wish=self.wish(version, **changes), timeout_s=120)

    def put(self, version: str) -> Any:
        """Put a stored version onto the host."""
        packages = self.wish(version)["needs"]
        return self.call("driver.put", root=ROOT, run="r1", version=version, packages=packages, timeout_s=120)


def _below(pid: int) -> list[int]:
    """Return a process and all that it began, the children first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [*(each for child in children for each in _below(int(child))), pid]
