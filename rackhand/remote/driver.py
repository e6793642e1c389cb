"""Install the NVIDIA driver from a signed repository as one pinned and held transaction (Debian and Ubuntu)."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from rackhand.remote import apt, command, dpkg, driver_repair, files, openpgp
from rackhand.remote.problem import Problem

KEYRING = Path("/usr/share/keyrings/rackhand-nvidia.asc")
SOURCE = Path("/etc/apt/sources.list.d/rackhand-nvidia.sources")
PIN = Path("/etc/apt/preferences.d/rackhand-nvidia")
UNATTENDED = Path("/etc/apt/apt.conf.d/51rackhand-nvidia")
BLACKLIST = (
    *("^nvidia-", "^libnvidia-", "^libcuda", "^libnvcuvid", "^libnvoptix", "^libnvsdm"),
    *("^firmware-nvidia-", "^linux-modules-nvidia-", "^cuda-drivers"),
)
PRIORITY_ALLOWING_DOWNGRADE = 1001
# What apt is to install also is the solution of what was left half done.
FLAGS = ("--fix-broken", "--allow-downgrades", "--allow-change-held-packages", "--no-install-recommends")


@command.alone("driver")
def install(
    repository_url: str,
    key_url: str,
    fingerprint: str,
    packages: list[str],
    beside: list[str],
    headers: list[str],
    pinned: list[str],
    family: list[str],
    services: list[str],
    version: str,
    timeout_s: int,
) -> list[str]:
    """Install `packages` at exactly driver `version`, then hold every member of the set; return what was installed.

    `beside` come along in whichever version is on offer, `headers` as far as they are on offer. An empty
    `repository_url` stands for the host's own sources. `family` are the patterns of all that may belong to any
    driver; what an earlier run left half done is put right.

    Raises Problem; no package and no pin has moved when the version is not on offer or other packages would go.
    """
    deadline = time.monotonic() + timeout_s
    with _as_before_on_failure(KEYRING, SOURCE, PIN):
        _follow(repository_url, key_url, fingerprint)
        _update(repository_url, _left_s(deadline))
        wanted = [*_wanted(packages, _members(family), version, repository_url), *beside, *_offers(headers)]
        _mend(family, version, _left_s(deadline))
        changes = [*FLAGS, "install", *wanted]
        files.write(PIN, _pin(pinned, version))
        apt.get(["--simulate", *changes], "driver-simulate", _left_s(deadline))
        _refuse_surprises(command.read("driver-simulate"), family)
    files.write(UNATTENDED, _unattended())
    apt.get(changes, "driver-install", _left_s(deadline))
    members = _members(pinned)
    subprocess.run(["apt-mark", "hold", *members], check=True, capture_output=True)
    _enable(services)
    return members


def _enable(services: Sequence[str]) -> None:
    done = subprocess.run(["systemctl", "enable", *services], capture_output=True, text=True, check=False)
    if done.returncode:
        names = ", ".join(services)
        said = done.stderr.strip().splitlines()[-3:]
        raise Problem("systemctl", f"systemctl enable {names} failed", "see 'systemctl status' on the host", said)


def settle(timeout_s: int) -> None:
    """Return once no package manager works on this host and none left anything half done: it may be rebooted then."""
    left_s = apt.wait_for_lock("reboot", timeout_s)
    driver_repair.finish(left_s)


def _mend(family: Sequence[str], version: str, timeout_s: int) -> None:
    """Let apt work here, where a dpkg run was cut off; nothing is done where none was."""
    apt.wait_for_lock("driver-install", timeout_s)
    driver_repair.mend(family, lambda name: driver_repair.archived(name, f"*{version}-*"))
    driver_repair.foreign(family, timeout_s)


def _left_s(deadline: float) -> int:
    return max(1, int(deadline - time.monotonic()))


def _follow(repository_url: str, key_url: str, fingerprint: str) -> None:
    """Name the repository and trust its key; where the host's own sources have the driver, no other may."""
    if not repository_url:
        SOURCE.unlink(missing_ok=True)
        KEYRING.unlink(missing_ok=True)
        return
    _trust(key_url, fingerprint)
    files.write(SOURCE, f"Types: deb\nURIs: {repository_url}/\nSuites: /\nSigned-By: {KEYRING}\n")


def _trust(key_url: str, fingerprint: str) -> None:
    key = _fetch(key_url)
    found = openpgp.fingerprints(key)
    if found != [fingerprint]:
        shown = ", ".join(found) or "no key at all"
        raise Problem(
            "repository-key",
            f"{key_url} holds {shown}, not {fingerprint}; nothing was installed",
            "compare with the fingerprint that the repository's owner publishes (driver_key_fingerprint)",
        )
    files.write(KEYRING, key)


def _fetch(key_url: str) -> bytes:
    try:
        with urllib.request.urlopen(key_url, timeout=30) as answer:
            return bytes(answer.read(1 << 20))
    except urllib.error.HTTPError as error:
        raise Problem(
            "repository-key",
            f"the repository has no key {key_url} (HTTP {error.code})",
            "check driver_repository_url and driver_key_fingerprint, whose last 8 digits name the key's file",
        ) from None
    except (urllib.error.URLError, OSError) as error:
        raise Problem(
            "repository-unreachable",
            f"the driver repository cannot be reached: {key_url}: {getattr(error, 'reason', error)}",
            "check the host's network and driver_repository_url, then run again",
        ) from None


def _update(repository_url: str, timeout_s: int) -> None:
    """Read every package list; apt only warns of lists that it could not fetch, but ours must be new."""
    apt.get(["update"], "driver-update", timeout_s)
    stale = [line for line in command.read("driver-update") if "Failed to fetch" in line and repository_url in line]
    if stale and repository_url:
        raise Problem(
            "repository-unreachable",
            f"the package list of {repository_url} cannot be fetched",
            "check the host's network and driver_repository_url, then run again",
            stale[-3:],
        )


@contextlib.contextmanager
def _as_before_on_failure(*paths: Path) -> Iterator[None]:
    """Put files back when the body fails: a source that apt refuses would break every later apt-get update."""
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    try:
        yield
    except Problem:
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                files.write(path, content)
        raise


def _pin(patterns: Sequence[str], version: str) -> str:
    return f"Package: {' '.join(patterns)}\nPin: version {version}-*\nPin-Priority: {PRIORITY_ALLOWING_DOWNGRADE}\n"


def _unattended() -> str:
    entries = "".join(f'  "{pattern}";\n' for pattern in BLACKLIST)
    why = "// written by rackhand: the driver changes only with a deploy"
    return f"{why}\nUnattended-Upgrade::Package-Blacklist {{\n{entries}}};\n"


def _wanted(packages: Sequence[str], members: Sequence[str], version: str, repository_url: str) -> list[str]:
    """Name every package as apt wants it: `name=version`, with the Debian revision that carries driver `version`.

    Members that are here already are named too: apt leaves packages on hold where they are unless they are named.
    """
    offers = _offers([*packages, *members])
    for name in packages:
        if not any(upstream(entry) == version for entry in offers.get(name, [])):
            known = {upstream(entry) for entry in offers.get(name, [])}
            shown = ", ".join(sorted(known, key=lambda text: [*map(int, re.findall(r"\d+", text))])) or "none"
            raise Problem(
                "driver-version",
                f"{repository_url or 'the host'} has no {name} {version} (offered: {shown})",
                "set driver_version to an offered one; nothing was installed",
            )
    first = {name: entry for name, found in offers.items() for entry in found[::-1] if upstream(entry) == version}
    return [f"{name}={entry}" for name, entry in first.items()]


def _offers(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the package versions on offer by name, the newest first; names that nobody offers are absent."""
    listing = subprocess.run(["apt-cache", "madison", *names], capture_output=True, text=True, check=False).stdout
    found: dict[str, list[str]] = {}
    for line in listing.splitlines():
        if line.count("|") >= 2:
            name, entry = (part.strip() for part in line.split("|")[:2])
            found.setdefault(name, []).append(entry)
    return found


def upstream(package_version: str) -> str:
    """Strip epoch and revision: `1:580.95.05-1` is driver 580.95.05."""
    return re.split(r"[-~+]", package_version.split(":", 1)[-1])[0]


def _refuse_surprises(simulation: Sequence[str], family: Sequence[str]) -> None:
    removed = [line.split()[1] for line in simulation if line.startswith("Remv ")]
    foreign = [name for name in removed if not dpkg.belongs(name, family)]
    if foreign:
        raise Problem(
            "driver-transaction",
            f"installing the driver would remove {', '.join(foreign)}",
            "resolve the conflict on the host first; nothing was changed",
        )


def _members(patterns: Sequence[str]) -> list[str]:
    return sorted(each.name for each in dpkg.here() if dpkg.belongs(each.name, patterns))
