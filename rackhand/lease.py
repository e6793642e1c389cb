"""Who may change a host now: what it says of its lease and its open order, and why another run is refused. Pure."""

from rackhand.frozen import Frozen
from rackhand.outcome import Problem
from rackhand.shelf import utc

# The codes of refusal.
REFUSALS = ("turn-open", "leased")
WAIT = "wait for that run to end (rackhand status)"
BREAK = f"{WAIT}; only if it is surely dead, take its place with --data lease_break=true"


class Lease(Frozen):
    """Which run may change the host, and until when, in seconds since the epoch by the host's clock.

    `pid` is its process at `place` (rackhand.whereabouts).
    """

    run: str
    owner: str = ""
    purpose: str = ""
    since: float = 0.0
    expires: float
    place: str = ""
    pid: int = 0


class OpenOrder(Frozen):
    """What the host was asked to do in its turn and has not ended yet; `alive` says that its program is at it."""

    run: str
    kind: str = ""
    purpose: str = ""
    to: str = ""
    alive: bool = False


def refusal(host: str, lease: Lease | None, order: OpenOrder | None, now: float, breaks: bool) -> Problem | None:
    """Say why a new run may not change this host; None where it may."""
    if order is not None and order.alive:
        what = f"the host still carries out the order ({order.purpose}) of run {order.run}"
        return Problem(code="turn-open", what=what, where=host, next_step=f"{WAIT}: the host finishes or goes back")
    if lease is None or lease.expires <= now or breaks:
        return None
    what = (
        f"{lease.owner or 'somebody'} ({lease.purpose or 'run'} {lease.run}) has worked on this host since "
        f"{utc(lease.since)} UTC; the lease ends at {utc(lease.expires)} UTC unless it is renewed"
    )
    return Problem(code="leased", what=what, where=host, next_step=BREAK)


def stuck(host: str, order: OpenOrder | None) -> Problem | None:
    """Say of an order that nobody carries out what ends it; None where there is none."""
    if order is None or order.alive:
        return None
    to = f" to {order.to}" if order.to else ""
    what = f"an order of run {order.run} ({order.purpose or order.kind}{to}) is open and nobody is at it"
    step = "systemctl start rackhand-switch on the host puts back what worked; or run the deploy again"
    return Problem(code="order-stuck", what=what, where=host, next_step=step)
