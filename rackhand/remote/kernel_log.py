"""The kernel's log since boot, from the journal, or from its own buffer where no journal has it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

LIMIT_S = 30
JOURNAL = ("journalctl", "--dmesg", "--boot", "--no-pager", "--output")
# The form of the lines: bare, or with the time at which each was said.
BARE, TIMED = "cat", "short-iso"
BUFFER = {BARE: ("dmesg", "--notime"), TIMED: ("dmesg", "--time-format", "iso")}


def lines(words: Sequence[str], form: str = BARE) -> list[str] | None:
    """Return the lines that hold one of these words, the oldest first; None where neither log can be read."""
    journal, buffer = _read([*JOURNAL, form]), None
    if journal is None or not any(line and not line.startswith("-- ") for line in journal):
        buffer = _read(BUFFER[form])
    found = buffer or journal
    return None if found is None else [line for line in found if any(word in line for word in words)]


def _read(command: Sequence[str]) -> list[str] | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines() if done.returncode == 0 else None
