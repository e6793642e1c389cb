"""Refuse early: no step before this one changes anything."""

from rackhand.operations import Change
from rackhand.run import HostRun


def verdict(host: HostRun) -> Change | None:
    """Read the host again right before the first change; the plan that was shown must still hold."""
    if host.live:
        host.changed()
        host.replan()
    return None
