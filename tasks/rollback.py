"""The way back: a release that lies on the host becomes the one that it is to serve."""

import sys
from collections.abc import Mapping
from typing import Any

from rackhand import lease, rollback
from rackhand.errors import RackhandError
from rackhand.operations import GPU, Change
from rackhand.outcome import Problem
from rackhand.plan import Refusal
from rackhand.run import HostRun


def choose(host: HostRun, data: Mapping[str, Any]) -> None:
    """Choose the release that this host goes back to; nothing here needs a hub, weights or requirements."""
    if host.role != GPU:
        return
    host.wishes, wished = rollback.resolve(data, sys.argv, host.name)
    _choose(host, wished)
    host.remember()


def spare(hosts: Mapping[str, HostRun]) -> None:
    """Leave hosts as they are that the deploy did not come to: they serve already what the others go back to."""
    if any(rollback.TYPED.fullmatch(word) for word in sys.argv):
        return
    moves = {
        name: (host.before, host.target)
        for name, host in hosts.items()
        if host.before and host.target and host.plan and host.target.id != host.before.id
    }
    for name, host in hosts.items():
        others = [move for other, move in moves.items() if other != name]
        served = [each.before for other, each in hosts.items() if each.before and other != name]
        if host.before and (name in moves or _unfit(host)) and rollback.stays(host.before, others, served):
            _forget(host)
            _choose(host, host.before.id)
            host.warnings.append(_spared(host.name, host.before.id))


def _forget(host: HostRun) -> None:
    """Take back what was said of a release to which the host does not go."""
    told = rollback.warnings(host.name, host.survey(), host.target, host.intent.settings) if host.target else ()
    host.warnings = [each for each in host.warnings if each not in told]
    host.refusal, host.wants_turn = None, False


def _unfit(host: HostRun) -> bool:
    """Tell whether all that is against a host is what it would go back to; nobody is taken out of another's hands."""
    return host.refusal is not None and not any(each.code in lease.REFUSALS for each in host.refusal.reasons)


def _spared(name: str, release: str) -> Problem:
    what = f"release {release} is what the others go back to, so the deploy had not come to this host; it stays"
    step = "nothing; to take this host back further, limit a rollback to it: --limit"
    return Problem(code="back-already", what=what, where=name, next_step=step)


def _choose(host: HostRun, wished: str) -> None:
    seen = host.survey()
    verdict, host.wishes, host.target = rollback.decide(host.name, seen, host.intent, wished)
    if isinstance(verdict, Refusal):
        host.refusal = verdict
        return
    host.plan = verdict
    host.warnings += [
        each
        for each in rollback.warnings(host.name, seen, host.wanted, host.intent.settings)
        if each not in host.warnings
    ]


def verdict(host: HostRun) -> Change | None:
    """Read the host again right before the first change; it must still have what was chosen."""
    if host.live:
        host.changed()
        _choose(host, host.wanted.id)
        if host.refusal:
            first: Problem = host.refusal.reasons[0]
            raise RackhandError(first.code, first.what, first.where, first.next_step, first.evidence)
    return None
