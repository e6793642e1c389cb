"""Keep the leases of this run alive while it works, and give them back."""

import contextlib
from typing import Any

import gevent  # type: ignore[import-untyped]

from rackhand.errors import RackhandError
from rackhand.render import ROOT
from rackhand.run import HostRun

ANSWER_S = 30
FAREWELL_S = 6


class Renewal:
    """Renews the leases of all hosts that have one, three times in the life of the shortest; only while there are any.

    A host that does not answer is asked again next time: its lease may well last until it is back.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self._seconds: dict[str, int] = {}
        self._hosts: dict[str, HostRun] = {}
        self._asked: set[str] = set()
        self._loop: Any = None

    def add(self, host: HostRun, seconds: int) -> None:
        """Renew this host's lease from now on; it lasts `seconds`."""
        self._hosts[host.name], self._seconds[host.name] = host, seconds
        host.leased = True
        if not self._loop:
            self._loop = gevent.spawn(self._renew)

    def _holding(self) -> list[HostRun]:
        return [host for host in self._hosts.values() if host.leased]

    def _renew(self) -> None:
        while holding := self._holding():
            gevent.sleep(min(self._seconds[host.name] for host in holding) / 3)
            for host in self._holding():
                if host.name not in self._asked:
                    gevent.spawn(self._renew_one, host)

    def _renew_one(self, host: HostRun) -> None:
        self._asked.add(host.name)
        try:
            host.call("lease.renew", ANSWER_S, root=ROOT, run=self.run, seconds=self._seconds[host.name])
        except RackhandError as error:
            if error.code == "lease-lost" and host.leased:
                host.leased, host.lost = False, error
        finally:
            self._asked.discard(host.name)


def give_back(host: HostRun) -> None:
    """Have an open order undone and give the lease back; the host does both by itself where this does not reach it."""
    with contextlib.suppress(Exception):
        if host.order:
            why = {"code": "interrupted", "what": "the run was interrupted"}
            host.call("order.abort", FAREWELL_S, root=ROOT, run=host.run, **why)
        elif host.leased:
            host.leased = False
            host.call("lease.release", FAREWELL_S, root=ROOT, run=host.run)
