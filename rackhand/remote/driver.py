"""Install the NVIDIA driver from a signed repository as one pinned and held transaction (Debian and Ubuntu)."""

from __future__ import annotations

import platform
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from rackhand.remote import apt, command, files, openpgp
from rackhand.remote.problem import Problem

KEYRING = Path("/usr/share/keyrings/rackhand-nvidia.asc")
SOURCE = Path("/etc/apt/sources.list.d/rackhand-nvidia.sources")
PIN = Path("/etc/apt/preferences.d/rackhand-nvidia")
UNATTENDED = Path("/etc/apt/apt.conf.d/51rackhand-nvidia")
BLACKLIST = ("^nvidia-", "^libnvidia-", "^libcuda1", "^libnvsdm", "^linux-modules-nvidia-", "^cuda-drivers")
PRIORITY_ALLOWING_DOWNGRADE = 1001


def install(
    repository_url: str,
    key_url: str,
    fingerprint: str,
    packages: list[str],
    pinned: list[str],
    services: list[str],
    version: str,
    timeout_s: int,
) -> list[str]:
    """Install `packages` at exactly driver `version`, then hold every member of the set; return what was installed.

    Raises Problem; nothing is installed when the simulation would touch packages outside the set.
    """
    _trust(key_url, fingerprint)
    files.write(SOURCE, f"Types: deb\nURIs: {repository_url}/\nSuites: /\nSigned-By: {KEYRING}\n")
    files.write(
        PIN, f"Package: {' '.join(pinned)}\nPin: version {version}-*\nPin-Priority: {PRIORITY_ALLOWING_DOWNGRADE}\n"
    )
    files.write(UNATTENDED, _unattended())
    apt.get(["update"], "driver-update", timeout_s)
    wanted = [*(f"{name}={_candidate(name, version)}" for name in packages), *_headers()]
    changes = ["--allow-downgrades", "--allow-change-held-packages", "--no-install-recommends", "install", *wanted]
    apt.get(["--simulate", *changes], "driver-simulate", timeout_s)
    _refuse_surprises(command.read("driver-simulate"), pinned)
    apt.get(changes, "driver-install", timeout_s)
    members = _members(pinned)
    subprocess.run(["apt-mark", "hold", *members], check=True, capture_output=True)
    subprocess.run(["systemctl", "enable", *services], check=True, capture_output=True)
    return members


def _trust(key_url: str, fingerprint: str) -> None:
    try:
        with urllib.request.urlopen(key_url, timeout=30) as answer:
            key = answer.read(1 << 20)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise Problem(
            "repository-unreachable",
            f"cannot fetch the repository key {key_url}: {reason}",
            "check the host's network and DNS, then run again",
        ) from None
    found = openpgp.fingerprints(key)
    if found != [fingerprint]:
        shown = ", ".join(found) or "no key at all"
        raise Problem(
            "repository-key",
            f"{key_url} holds {shown}, not {fingerprint}",
            "do not install from it; compare with NVIDIA's published fingerprint",
        )
    files.write(KEYRING, key)


def _unattended() -> str:
    entries = "".join(f'  "{pattern}";\n' for pattern in BLACKLIST)
    note = "// written by rackhand: the driver changes only with a deploy"
    return f"{note}\nUnattended-Upgrade::Package-Blacklist {{\n{entries}}};\n"


def _headers() -> list[str]:
    """Name the headers that DKMS builds against: of the running kernel, and the meta package that follows new kernels.

    A kernel that the distribution does not offer brings its own headers, or none that we could install.
    """
    kernel = platform.release()
    flavour = kernel.rpartition("-")[2]
    running, following = f"linux-headers-{kernel}", f"linux-headers-{flavour}"
    return [name for name in (running, following) if _offered(running) and _offered(name)]


def _candidate(name: str, version: str) -> str:
    """Find the full package version (with its Debian revision) that carries driver `version`."""
    offered = _offered(name)
    match = next((entry for entry in offered if re.split(r"[-~+]", entry.split(":", 1)[-1])[0] == version), None)
    if match is None:
        known = ", ".join(sorted({re.split(r"[-~+]", entry.split(":", 1)[-1])[0] for entry in offered})) or "none"
        raise Problem(
            "driver-version",
            f"{name} {version} is not in the repository (offered: {known})",
            "set driver_version to an offered one",
        )
    return match


def _offered(name: str) -> list[str]:
    listing = subprocess.run(["apt-cache", "madison", name], capture_output=True, text=True, check=False).stdout
    return [line.split("|")[1].strip() for line in listing.splitlines() if line.count("|") >= 2]


def _refuse_surprises(simulation: Sequence[str], pinned: Sequence[str]) -> None:
    removed = [line.split()[1] for line in simulation if line.startswith("Remv ")]
    ours = [re.compile(pattern.replace("*", ".*") + "$") for pattern in pinned]
    foreign = [name for name in removed if not any(pattern.match(name) for pattern in ours)]
    if foreign:
        raise Problem(
            "driver-transaction",
            f"installing the driver would remove {', '.join(foreign)}",
            "resolve the conflict on the host first; nothing was changed",
        )


def _members(pinned: Sequence[str]) -> list[str]:
    listing = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}|${Package}\n", *pinned],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return sorted(line.split("|")[1] for line in listing.splitlines() if line.startswith(("ii", "hi")))
