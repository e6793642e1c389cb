"""Make sure the outer machine has the Debian packages a practice fleet is built from."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from rackhand.errors import RackhandError
from rackhand.lab import lock, places, shell

# Package → one file that it alone brings.
PACKAGES = {
    "systemd-container": "systemd-nspawn",
    "mmdebstrap": "mmdebstrap",
    "iproute2": "ip",
    "nftables": "nft",
    "openssh-client": "ssh-keygen",
    "util-linux": "nsenter",
    "gcc": "gcc",
    "libc6-dev": "/usr/include/stdlib.h",
    "dpkg-dev": "dpkg-scanpackages",
    "apt-utils": "apt-ftparchive",
    "gnupg": "gpg",
    "pciutils": "lspci",
    "haproxy": "haproxy",
    "nginx-light": "nginx",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
}
INSTALL_TIMEOUT_S = 900


def missing(wanted: Mapping[str, str] = PACKAGES) -> list[str]:
    """Return the Debian packages that the outer machine lacks."""
    return [package for package, proof in wanted.items() if not _present(proof)]


def ensure(wanted: Mapping[str, str] = PACKAGES) -> None:
    """Install what is missing, as root; otherwise raise lab.root or lab.packages."""
    root()
    if not missing(wanted):
        return
    with lock.exclusive(places.locks() / "packages.lock", INSTALL_TIMEOUT_S):
        packages = missing(wanted)
        if packages:
            _install(packages)


def root() -> None:
    """Raise lab.root unless this process may boot hosts."""
    if os.geteuid() != 0:
        raise RackhandError("lab.root", "only root can boot practice hosts", "this machine", "run this as root")


def _present(proof: str) -> bool:
    if proof.startswith("/"):
        return Path(proof).exists()
    return shutil.which(proof, path=f"{os.environ.get('PATH', '')}:{shell.SYSTEM_PATH}") is not None


def _install(packages: list[str]) -> None:
    if shutil.which("apt-get") is None:
        raise _refusal(packages, "there is no apt-get here")
    places.say(f"installing {', '.join(packages)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    shell.attempt(["apt-get", "update", "-qq"], timeout_s=INSTALL_TIMEOUT_S, env=quiet)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    done = shell.attempt(install, timeout_s=INSTALL_TIMEOUT_S, env=quiet)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise _refusal(packages, lines[-1] if lines else f"apt-get ended with {done.returncode}")


def _refusal(packages: list[str], reason: str) -> RackhandError:
    return RackhandError(
        "lab.packages",
        f"missing {', '.join(packages)} ({reason})",
        "this machine",
        f"install them: apt-get install {' '.join(packages)}",
    )
