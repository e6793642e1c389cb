"""The lease: before the first change, this run makes sure that it is the only one on the host."""

import os
from socket import gethostname
from typing import Any

from rackhand.errors import RackhandError
from rackhand.operations import Change, current_run
from rackhand.render import ROOT
from rackhand.run import HostRun
from rackhand.whereabouts import ended, here


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
        "place": here(),
        "break": settings.lease_break,
    }
    _take(host, wanted)
    run.renewal.add(host, settings.lease_s)
    return None


def _take(host: HostRun, wanted: dict[str, Any]) -> None:
    """Take it; a run of this very machine that is dead does not hold up the one that is to finish its work."""
    try:
        host.call("lease.take", root=ROOT, lease=wanted)
    except RackhandError as error:
        held = host.call("lease.look", root=ROOT) if error.code == "leased" else None
        if not held or not ended(str(held.get("place") or ""), int(held.get("pid") or 0)):
            raise
        host.call("lease.take", root=ROOT, lease={**wanted, "ended": held["run"]})
