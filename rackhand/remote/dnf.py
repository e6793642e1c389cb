"""Call dnf so that it waits for its lock, asks nothing, and explains itself when it fails."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rackhand.remote import command
from rackhand.remote.problem import Problem

TELLING = ("Error", "Problem", " - ", "- ", "  - ")
# What dnf and rpm say, our code, what it means, what to do. The first that fits is told; `{}` is the pattern's group.
CAUSES = (
    (
        r"nothing provides (dkms\S*) needed by|Unable to find a match: (dkms)\b",
        "package-missing",
        "no repository of the host offers {}, which builds the kernel module",
        "enable EPEL and, for what EPEL needs, CRB (CodeReady Builder) on the host, then run again",
    ),
    (
        r"Unable to find a match: (.+)|nothing provides (\S+) needed by",
        "package-missing",
        "no repository of the host offers {}",
        "look at 'dnf repolist' on the host and enable the repository that has it, then run again",
    ),
    (
        r"(GPG check FAILED|Public key for \S+ is not installed|is not signed|GPG key.*not correct|BAD signature.*)",
        "repository-signature",
        "dnf does not trust the signature of a package: {}",
        "nothing was installed; compare driver_key_fingerprint with the key that signs it now",
    ),
    (
        r"(?:Failed to download metadata for repo|Cannot download repomd.xml.*|Cannot prepare internal mirrorlist.*)"
        r" '?([^':]*)|No more mirrors to try.*|Could not resolve host: (\S+)",
        "repository-unreachable",
        "a package repository cannot be reached: {}",
        "check the host's network and DNS ('dnf makecache' on the host), then run again",
    ),
    (
        r"no enabled repositories",
        "repository-unreachable",
        "the host has no package repository: {}",
        "register the host with its distribution, or add a repository, then run again",
    ),
    (
        r"No space left on device|more space needed on|needs \S+ on the",
        "disk-full",
        "the disk filled up while packages were installed",
        "free space on the host, then run again",
    ),
    (
        r"conflicting requests|package \S+ conflicts with|cannot install",
        "dnf-conflict",
        "the wanted packages do not fit together with what is installed, locked or excluded",
        "look at 'dnf versionlock list' and the excludes of /etc/dnf/dnf.conf on the host; nothing was changed",
    ),
)


def get(arguments: Sequence[str], log: str, timeout_s: int) -> list[str]:
    """Run `dnf` and return its last lines; raise Problem with the decisive ones."""
    status, lines = command.run(["dnf", "--assumeyes", *arguments], log, timeout_s, {"LC_ALL": "C"})
    if status:
        raise explained(status, lines, log)
    return lines


def explained(status: int, lines: Sequence[str], log: str) -> Problem:
    """Say in our words why dnf failed, with what it said last."""
    evidence = [line for line in lines if line.startswith(TELLING)][-6:] or list(lines[-6:])
    where = f"see {command.LOGS}/{log}.log on the host, then run again"
    if status == 124:
        return Problem("dnf-timeout", "dnf did not finish in time and was stopped", where, evidence)
    text = "\n".join(lines)
    for pattern, code, what, next_step in CAUSES:
        found = re.search(pattern, text)
        if found:
            detail = next((group for group in found.groups() if group), found.group())
            return Problem(code, what.format(detail.strip()), next_step, evidence)
    return Problem("dnf-failed", f"dnf failed with status {status}", where, evidence)
