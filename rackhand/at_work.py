"""Who else is at work on a host of this run, or was and left something open."""

from rackhand import lease
from rackhand.plan import Refusal
from rackhand.run import HostRun
from rackhand.whereabouts import ended


def refuse(host: HostRun, *, looks: bool) -> None:
    """Refuse a host on which another run works; who only looks is told."""
    if host.plan is None:
        return
    seen = host.survey().state
    breaks = host.intent.settings.lease_break or bool(seen.lease and ended(seen.lease.place, seen.lease.pid))
    found = lease.refusal(host.name, seen.lease, seen.order, seen.now, breaks)
    if looks:
        told = (found, lease.stuck(host.name, seen.order))
        host.warnings += [each for each in told if each]
    elif found:
        host.refusal, host.plan = Refusal(host=host.name, cards=host.plan.cards, reasons=(found,)), None
