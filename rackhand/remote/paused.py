"""Services that are stopped for a while and come back, whatever happens meanwhile."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from rackhand.remote import files

# Read again by a later call where one that stopped services was killed; a boot starts them by itself.
STOPPED = Path("/run/rackhand-stopped-services")
RUNNING = ("active", "activating", "reloading", "deactivating")
ANSWER_S = 20
STOP_S = 120
# A fabric manager trains every link before it says that it runs.
START_S = 300
# What is stopped or started gets that at least, however little time is left.
LEAST_S = 30


def stop(services: Sequence[str], deadline: float) -> list[str]:
    """Stop services in order and return those that are to be started again, in the order in which they were stopped."""
    before = STOPPED.read_text().split() if STOPPED.exists() else []
    found = [name for name in services if name in before or _wanted(name)]
    files.write(STOPPED, "".join(f"{name}\n" for name in found))
    for name in found:
        _systemctl("stop", name, within_s=_left_s(deadline, STOP_S))
    return found


def start(services: Sequence[str], deadline: float) -> list[str]:
    """Start again what was stopped, the last first, and return what does not start."""
    down = []
    for name in reversed(services):
        _systemctl("reset-failed", name)
        if not _systemctl("start", name, within_s=_left_s(deadline, START_S))[0]:
            down.append(name)
    STOPPED.unlink(missing_ok=True)
    return down


def _wanted(name: str) -> bool:
    """Tell whether a service runs, tries to, or failed although it is to run: its driver may have been the reason."""
    state = _systemctl("is-active", name)[1]
    return state in RUNNING or (state == "failed" and _systemctl("is-enabled", name)[0])


def _left_s(deadline: float, most_s: float) -> float:
    return max(LEAST_S, min(most_s, deadline - time.monotonic()))


def _systemctl(*words: str, within_s: float = ANSWER_S) -> tuple[bool, str]:
    """Return whether systemctl succeeded, and what it said."""
    try:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=within_s, check=False)
    except subprocess.TimeoutExpired:
        return False, ""
    return done.returncode == 0, done.stdout.strip()
