"""Call apt-get so that it waits for its lock, asks nothing, restarts nothing, and explains itself when it fails."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rackhand.remote import command, host
from rackhand.remote.problem import Problem

ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_MODE": "l",
    "APT_LISTCHANGES_FRONTEND": "none",
    "LC_ALL": "C",
}
LOCK_WAIT_S = 300
POLL_S = 2


def get(arguments: Sequence[str], log: str, timeout_s: int) -> list[str]:
    """Run `apt-get` and return its last lines; raise Problem with the decisive lines when it fails."""
    wait_for_lock(min(LOCK_WAIT_S, timeout_s))
    options = [
        "-o",
        "DPkg::Lock::Timeout=60",
        "-o",
        "Dpkg::Options::=--force-confold",
        "-o",
        "APT::Get::Assume-Yes=true",
    ]
    status, lines = command.run(["apt-get", *options, *arguments], log, timeout_s, ENVIRONMENT)
    if status:
        raise _explain(status, lines, arguments)
    return lines


def wait_for_lock(timeout_s: int) -> None:
    """Wait until no other process holds apt's locks; name the holder when the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        holder = host.apt_lock_holder()
        if holder is None:
            return
        if time.monotonic() > deadline:
            who = f"{holder['command']} (pid {holder['pid']}{', ' + holder['unit'] if holder['unit'] else ''})"
            raise Problem(
                "apt-locked",
                f"{who} held {holder['path']} for more than {timeout_s} s",
                f"wait for pid {holder['pid']} to end, then run again",
            )
        time.sleep(POLL_S)


def _explain(status: int, lines: list[str], arguments: Sequence[str]) -> Problem:
    evidence = [line for line in lines if line.startswith(("E:", "W:", "Err:", "dpkg: error"))][-6:] or lines[-6:]
    text = "\n".join(evidence)
    if status == 124:
        return Problem(
            "apt-timeout",
            f"apt-get {arguments[0]} did not finish in time",
            "see /var/log/rackhand on the host, then run again",
            evidence,
        )
    if "NO_PUBKEY" in text or "is not signed" in text or "not bound" in text:
        return Problem(
            "repository-signature",
            "apt does not trust a repository's signature",
            "check the key fingerprint in the driver catalogue",
            evidence,
        )
    if "Failed to fetch" in text or "Could not resolve" in text or "Unable to connect" in text:
        return Problem(
            "repository-unreachable",
            "a package repository could not be reached",
            "check the host's network and DNS, then run again",
            evidence,
        )
    if "dpkg was interrupted" in text:
        return Problem(
            "dpkg-interrupted",
            "an earlier dpkg run was interrupted",
            "run 'dpkg --configure -a' on the host, then run again",
            evidence,
        )
    return Problem(
        "apt-failed",
        f"apt-get {' '.join(arguments[:2])} failed with status {status}",
        "see /var/log/rackhand on the host",
        evidence,
    )
