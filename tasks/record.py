"""The end of a host's run."""

from rackhand.operations import Change
from rackhand.run import HostRun


def finish(host: HostRun) -> Change | None:
    """Mark the host as done: every step before this one held."""
    if host.live:
        host.finish()
    return None
