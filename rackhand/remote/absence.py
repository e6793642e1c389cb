"""Whether a controller that holds servers stopped is gone for good: it renews its lease as long as it lives."""

from __future__ import annotations

import time
from pathlib import Path

from rackhand.remote import command, state

# A lease may run out while the host boots or the network is away. The controller renews it three times in its life, so
# half a life after that it would have been heard, and never sooner than this, in seconds.
PATIENCE_S = 60
UPTIME = Path("/proc/uptime")


def is_over(base: Path, run: str) -> bool:
    """Tell whether nobody is left who would end the hold of this run; what it has begun here is let come to its end."""
    held = state.lease(base)
    if held is None:
        return False  # nobody knows; the hold has an end of its own
    patience_s = max(PATIENCE_S, held.get("seconds", 0) / 2)
    late = time.time() > held["expires"] + patience_s and _uptime_s() > patience_s
    return (late or held["run"] != run) and not command.busy()


def _uptime_s() -> float:
    return float(UPTIME.read_text().split()[0])
