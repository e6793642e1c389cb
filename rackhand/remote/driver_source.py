"""NVIDIA's repository to the package manager: its key, its lists, which versions of which packages it offers."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Sequence

from rackhand.remote import driver_files, openpgp, packager
from rackhand.remote.dpkg import upstream
from rackhand.remote.problem import Problem


def follow(repository_url: str, key_url: str, fingerprint: str, timeout_s: int) -> None:
    """Name the repository, trust its key, and read every package list; raises Problem.

    Where the host's own sources have the driver (no `repository_url`), no other may.
    """
    driver_files.place(driver_files.key_file(), _trusted(key_url, fingerprint) if repository_url else "")
    driver_files.place(driver_files.source_file(), driver_files.source(repository_url))
    packager.sets().update(repository_url, timeout_s)


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


def wanted(
    packages: Sequence[str], members: Sequence[str], version: str, repository_url: str, timeout_s: int
) -> dict[str, str]:
    """Return by name the package versions that carry driver `version`, with their revision; raises Problem.

    Members that are here already are named too: what is on hold stays where it is unless it is named.
    """
    found = packager.sets().offers([*packages, *members], timeout_s)
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
