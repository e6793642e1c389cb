"""The lease: before the first change, this run makes sure that it is the only one on the host."""

import os
from functools import partial
from socket import gethostname
from typing import Any

from rackhand.aftermath import BACK_S
from rackhand.errors import RackhandError
from rackhand.lease import OpenOrder
from rackhand.operations import Change, current_run
from rackhand.order import Order
from rackhand.outcome import TurnEvent
from rackhand.render import ROOT
from rackhand.run import GPU, HostRun
from rackhand.whereabouts import ended, here


def take(host: HostRun) -> Change | None:
    """Take the host's lease, which is renewed until the host is through, and end an order that nobody carries out."""
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
    found = host.survey().state.order if host.role == GPU else None
    if found is None or found.alive or found.run == run.id:
        return None
    summary = f"end the order of run {found.run} ({found.purpose or found.kind}), which nobody carried out"
    return Change(summary=summary, apply=lambda: _end(host, found))


def _end(host: HostRun, found: OpenOrder) -> None:
    """Have the host put back what worked, or keep what had been confirmed, before this run looks any further."""
    settings = host.intent.settings
    away_s = settings.driver_install_timeout_s + settings.driver_reboot_timeout_s
    limit_s = BACK_S + away_s + (host.before.start_timeout_s if host.before else 0)
    order = Order(host.session, ROOT, found.run, partial(_tell, host), host.since, settings.driver_reboot_timeout_s)
    if not order.abort("interrupted", "its run is gone, and nobody carried it out"):
        what = f"the order of run {found.run} is open, and the program that is to end it does not start"
        raise host.error("order-stuck", what, "run 'systemctl status rackhand-switch' on the host, then run again")
    with host.waiting("an order of an earlier run to end", limit_s, detail=order.words):
        order.follow(lambda phase: False, limit_s)
    host.changed()
    host.remember()


def _tell(host: HostRun, event: TurnEvent) -> None:
    host.board.phase(host.name, event.phase, event.instance, event.detail)


def _take(host: HostRun, wanted: dict[str, Any]) -> None:
    """Take it; a run of this very machine that is dead does not hold up the one that is to finish its work."""
    try:
        host.call("lease.take", root=ROOT, lease=wanted)
    except RackhandError as error:
        held = host.call("lease.look", root=ROOT) if error.code == "leased" else None
        if not held or not ended(str(held.get("place") or ""), int(held.get("pid") or 0)):
            raise
        host.call("lease.take", root=ROOT, lease={**wanted, "ended": held["run"]})
