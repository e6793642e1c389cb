"""The way back: a release that lies on the host becomes the one that it is to serve."""

import sys
from collections.abc import Mapping
from typing import Any

from rackhand import rollback
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
