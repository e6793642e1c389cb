"""Let practice hosts ail: their cards, and what their kernel's log says."""

from pathlib import Path

from rackhand.lab import emulation
from rackhand.lab.host import LabHost
from rackhand.lab.personality import Personality

# A practice host has no kernel log of its own; the program that prints it is found before the real one.
DMESG = "/usr/local/bin/dmesg"


def turns_into(host: LabHost, machine: Personality) -> None:
    """Give a host that runs other hardware."""
    emulation.rewrite(Path(f"/proc/{host.pid}/root"), machine)


def says(host: LabHost, *lines: str) -> None:
    """Let the kernel's log of a host hold these lines and no others."""
    quoted = "\n".join(f"2026-11-29T06:14:{second:02d},000000+00:00 {line}" for second, line in enumerate(lines))
    host.write(DMESG, f"#!/bin/sh\ncat <<'END'\n{quoted}\nEND\n", mode=0o755)


def recovers(host: LabHost, machine: Personality) -> None:
    """Take everything back that a test let ail."""
    turns_into(host, machine)
    host.run(["rm", "-f", DMESG])
