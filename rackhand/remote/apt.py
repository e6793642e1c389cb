"""Call apt-get so that it waits for its lock, asks nothing, restarts nothing, and explains itself when it fails."""

from __future__ import annotations

import re
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
OPTIONS = (
    *("-o", "DPkg::Lock::Timeout=60"),
    *("-o", "Dpkg::Options::=--force-confold"),
    *("-o", "APT::Get::Assume-Yes=true"),
)
POLL_S = 2
TELLING = ("E:", "W:", "Err:", "dpkg: error")
# What apt and dpkg say, our code, what it means, what to do. The first that fits is told; `{}` is the pattern's group.
CAUSES = (
    (
        r"dpkg was interrupted",
        "dpkg-interrupted",
        "an earlier dpkg run on the host was cut off in the middle",
        "run 'dpkg --configure -a' on the host, then run again",
    ),
    (
        r"Could not get lock \S+ It is held by process (\d+ \(\S+\))",
        "apt-locked",
        "process {} took apt's lock in between",
        "wait for it to end, then run again",
    ),
    (
        r"lock was locked by another process with pid (\d+)",
        "apt-locked",
        "process {} took dpkg's lock in between",
        "wait for it to end, then run again",
    ),
    (
        r"repository '(\S+)[^']*' is not signed",
        "repository-signature",
        "apt does not trust the signature of {}",
        "nothing was installed; compare driver_key_fingerprint with the key that signs it now",
    ),
    (
        r"NO_PUBKEY|is not signed|not bound|EXPKEYSIG|BADSIG",
        "repository-signature",
        "apt does not trust the signature of a repository: {}",
        "nothing was installed; compare driver_key_fingerprint with the key that signs it now",
    ),
    (
        r"(?:Failed to fetch (\S+)|Could not resolve|Unable to connect|Could not connect)",
        "repository-unreachable",
        "a package repository cannot be reached: {}",
        "check the host's network and DNS ('apt-get update' on the host), then run again",
    ),
    (
        r"(?:Unable to locate package (\S+)|Package '(\S+)' has no installation candidate)",
        "package-missing",
        "no repository of the host offers the package {}",
        "look at 'apt-get update' and /etc/apt/sources.list* on the host, then run again",
    ),
    (
        r"Conflicting values set for option Signed-By regarding source (\S+)",
        "repository-conflict",
        "another file of the host names the same repository with another key: {}",
        "find it with 'grep -rl' in /etc/apt/sources.list.d on the host, remove it, then run again",
    ),
    (
        r"held broken packages|unmet dependencies",
        "apt-conflict",
        "the wanted packages do not fit together with what is installed, pinned or held",
        "look at 'apt-cache policy' and 'apt-mark showhold' on the host; nothing was changed",
    ),
    (
        r"No space left on device|enough free space",
        "disk-full",
        "the disk filled up while packages were installed",
        "free space on the host, then run again",
    ),
)


def get(arguments: Sequence[str], log: str, timeout_s: int) -> list[str]:
    """Run `apt-get` once its locks are free and return its last lines; raise Problem with the decisive ones."""
    left_s = wait_for_lock(log, timeout_s)
    status, lines = command.run(["apt-get", *OPTIONS, *arguments], log, left_s, ENVIRONMENT)
    if status:
        raise explained(status, lines, arguments, log)
    return lines


def mark(verb: str, names: Sequence[str], log: str, timeout_s: int) -> None:
    """Run `apt-mark` once the locks are free, again when somebody else was quicker; raise Problem when it fails.

    Unlike apt-get, what apt-mark calls (dpkg --set-selections) waits for no lock, whatever DPkg::Lock::Timeout says.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = wait_for_lock(log, max(1, int(deadline - time.monotonic())))
        status, lines = command.run(["apt-mark", verb, *names], log, left_s, ENVIRONMENT)
        if not status:
            return
        problem = explained(status, lines, [], log, "apt-mark")
        if problem.code != "apt-locked" or time.monotonic() > deadline:
            raise problem
        time.sleep(POLL_S)


def wait_for_lock(log: str, timeout_s: int) -> int:
    """Wait until no process holds a lock of apt, dpkg or rpm; return the seconds left, or name the holder."""
    deadline = time.monotonic() + timeout_s
    while (holder := host.apt_lock_holder()) is not None:
        unit = f", {holder['unit']}" if holder["unit"] else ""
        who = f"{holder['command'] or 'an unknown process'} (pid {holder['pid']}{unit})"
        if time.monotonic() > deadline:
            raise Problem(
                "apt-locked",
                f"{who} held {'rpm' if 'rpm' in holder['path'] else 'apt'}'s lock {holder['path']} for more than "
                f"{timeout_s} s",
                f"see what it does (ps -fp {holder['pid']} on the host), let it end or stop it, then run again",
            )
        command.say(log, f"waiting for {who}, which holds {holder['path']}")
        time.sleep(POLL_S)
    return max(1, int(deadline - time.monotonic()))


def explained(status: int, lines: list[str], arguments: Sequence[str], log: str, program: str = "apt-get") -> Problem:
    """Say in our words why apt-get (or another of apt's programs) failed, with what it said last."""
    evidence = [line for line in lines if line.startswith(TELLING)][-6:] or lines[-6:]
    where = f"see {command.LOGS}/{log}.log on the host, then run again"
    done = " ".join([program, *(word for word in arguments if word in ("update", "install", "download"))])
    if status == 124:
        return Problem("apt-timeout", f"{done} did not finish in time and was stopped", where, evidence)
    # What dpkg says of a full disk stands before apt's last words.
    for text in ("\n".join(evidence), "\n".join(lines)):
        for pattern, code, what, next_step in CAUSES:
            found = re.search(pattern, text)
            if found:
                detail = next((group for group in found.groups() if group), found.group())
                return Problem(code, what.format(detail), next_step, evidence)
    return Problem("apt-failed", f"{done} failed with status {status}", where, evidence)
