"""NVIDIA's repository as apt sees it: its key, its lists, and which versions of which packages it offers."""

from __future__ import annotations

import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence

from rackhand.remote import apt, command, driver_files, openpgp
from rackhand.remote.dpkg import upstream
from rackhand.remote.problem import Problem


def follow(repository_url: str, key_url: str, fingerprint: str, timeout_s: int) -> None:
    """Name the repository, trust its key, and read every package list; raises Problem.

    Where the host's own sources have the driver (no `repository_url`), no other may.
    """
    driver_files.place(driver_files.KEYRING, _trusted(key_url, fingerprint) if repository_url else "")
    driver_files.place(driver_files.SOURCE, driver_files.source(repository_url))
    _update(repository_url, timeout_s)


def _trusted(key_url: str, fingerprint: str) -> str:
    key = _fetch(key_url)
    found = openpgp.fingerprints(key)
    if found != [fingerprint]:
        shown = ", ".join(found) or "no key at all"
        raise Problem(
            "repository-key",
            f"{key_url} holds {shown}, not {fingerprint}; nothing was installed",
            "compare with the fingerprint that the repository's owner publishes (driver_key_fingerprint)",
        )
    return key.decode(errors="replace")


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


def wanted(packages: Sequence[str], members: Sequence[str], version: str, repository_url: str) -> dict[str, str]:
    """Return by name the package versions that carry driver `version`, with their Debian revision; raises Problem.

    Members that are here already are named too: apt leaves packages on hold where they are unless they are named.
    """
    found = offers([*packages, *members])
    for name in packages:
        if not any(upstream(entry) == version for entry in found.get(name, [])):
            known = {upstream(entry) for entry in found.get(name, [])}
            shown = ", ".join(sorted(known, key=lambda text: [*map(int, re.findall(r"\d+", text))])) or "none"
            raise Problem(
                "driver-version",
                f"{repository_url or 'the host'} has no {name} {version} (offered: {shown})",
                "set driver_version to an offered one; nothing was installed",
            )
    return {name: entry for name, each in found.items() for entry in each[::-1] if upstream(entry) == version}


def offers(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the package versions on offer by name, the newest first; names that nobody offers are absent."""
    command_line = ["apt-cache", "madison", *names]
    listing = subprocess.run(command_line, capture_output=True, text=True, check=False).stdout if names else ""
    found: dict[str, list[str]] = {}
    for line in listing.splitlines():
        if line.count("|") >= 2:
            name, entry = (part.strip() for part in line.split("|")[:2])
            found.setdefault(name, []).append(entry)
    return found
