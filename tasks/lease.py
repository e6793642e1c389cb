"""The lease: before the first change, this run makes sure that it is the only one on the host."""

import os
from socket import gethostname
from typing import Any

from rackhand.operations import Change, current_run
from rackhand.render import ROOT
from rackhand.run import HostRun


def take(host: HostRun) -> Change | None:
    """Take the host's lease; it is renewed until the host is through, and changes nothing that serves."""
    if not host.live:
        return None
    run, settings = current_run(), host.intent.settings
    wanted: dict[str, Any] = {
        "owner": run.owner,
        "controller": gethostname(),
        "run": run.id,
        "purpose": run.purpose,
        "pid": os.getpid(),
        "seconds": settings.lease_s,
        "break": settings.lease_break,
    }
    host.call("lease.take", root=ROOT, lease=wanted)
    run.renewal.add(host, settings.lease_s)
    return None
