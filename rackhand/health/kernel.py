"""What the driver wrote to the kernel's log: Xid and SXid errors, cards that it refused. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rackhand.catalog.health import XID, health_book
from rackhand.health.notice import notice, told
from rackhand.outcome import Finding, Severity

# From here on the driver began anew, and with it every card.
LOADED = "NVRM: loading NVIDIA UNIX"
# Behind the address of a card that is cut into slices stands the slice (GPU-I:05 GPU-CI:00).
XIDS = re.compile(r"NVRM: Xid \(PCI:(?P<place>[0-9A-Fa-f:.]+)[^)]*\): (?P<number>\d+)")
SXIDS = re.compile(r"SXid \(PCI:(?P<place>[0-9A-Fa-f:.]+)\): (?P<number>\d+), (?P<kind>Fatal|Non-fatal)", re.IGNORECASE)
REFUSED = re.compile(r"NVRM: .*(?:RmInitAdapter failed|is not supported by|open kernel modules)")
KEPT = 3


def errors(lines: Sequence[str] | None) -> Iterator[Finding]:
    """Yield what counts since boot, or since the module was loaded last; None are lines that nobody could read."""
    if lines is None:
        yield notice("kernel-log")
        return
    since = _since_load(lines)
    yield from _xids(since)
    yield from _switches(since)
    refused = [line for line in since if REFUSED.search(line)]
    if refused:
        yield notice("module-refused", evidence=tuple(refused[-KEPT:]))


def _since_load(lines: Sequence[str]) -> Sequence[str]:
    loads = [number for number, line in enumerate(lines) if LOADED in line]
    return lines[loads[-1] :] if loads else lines


def _xids(lines: Sequence[str]) -> Iterator[Finding]:
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for line in lines:
        if match := XIDS.search(line):
            found[_address(match["place"]), int(match["number"])].append(line)
    for (address, number), said in sorted(found.items()):
        row = health_book().xid(number)
        times = f"Xid {number}, {len(said)} times since boot or load" if len(said) > 1 else f"Xid {number}"
        finding = told(f"{XID}{number}", row or health_book().unlisted, times, address, tuple(said[-KEPT:]))
        often = bool(row and row.often and len(said) >= row.often)
        yield replace(finding, severity=Severity.ERROR) if often else finding


def _switches(lines: Sequence[str]) -> Iterator[Finding]:
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for line in lines:
        if match := SXIDS.search(line):
            fatal = match["kind"].lower() == "fatal"
            found["nvswitch-fatal" if fatal else "nvswitch-error", _address(match["place"])].append(line)
    for (code, address), said in sorted(found.items()):
        number = next(match["number"] for match in map(SXIDS.search, reversed(said)) if match)
        yield notice(code, f"SXid {number} of {address}", evidence=tuple(said[-KEPT:]))


def _address(place: str) -> str:
    """Write an address as the bus does: the driver leaves the function out."""
    short = place.lower()[-12:] if "." in place else place.lower()[-10:]
    return short if "." in short else f"{short}.0"
