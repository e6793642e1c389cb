"""The controller's side of an order: begin it, watch the host carry it out, confirm it, or have it undone.

The host does everything by itself, so nothing is lost with a connection: the watch goes on over a new one.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import gevent  # type: ignore[import-untyped]

from rackhand.errors import RackhandError
from rackhand.journal import startup_phase
from rackhand.outcome import TurnEvent

LOST = ("connection-lost", "timeout")
# What the host says before it reboots by itself; a call that the reboot cuts off may look like a crash.
AWAY, CUT_OFF = ("driver-back", "reboot"), ("remote-crash",)
ANSWER_S = 60
POLL_S = 10
# The longest call: a poll, or the host's own end of an order, and what a slow connection adds, in seconds.
CALL_S = 35
# For how long a host may be out of reach before the watch is given up, in seconds.
RECONNECT_S = 90
RETRY_S = 2
SETTLED = ("accepted", "confirmed", "closed")
BY_ITSELF = (
    "the host finishes its turn or goes back to the release before by itself; see rackhand status, then run again"
)


class Line(Protocol):
    """What an order needs of a host's connection."""

    name: str

    def call(self, function: str, within_s: int = ..., **args: Any) -> Any: ...

    def reconnect(self) -> bool: ...


class Order:
    """One order on one host.

    + tell: called with each event as the host told it, in order, its time in seconds since the run began
    + since: time.monotonic at which the run began
    + reboot_s: how long the host may be away when it reboots by itself
    """

    def __init__(
        self, line: Line, root: str, run: str, tell: Callable[[TurnEvent], None], since: float, reboot_s: float = 0.0
    ) -> None:
        self.line, self.root, self.run, self.tell, self.since = line, root, run, tell, since
        self.reboot_s = reboot_s
        self.kind = ""
        self.waiting: tuple[Mapping[str, Any], ...] = ()
        self.phase = ""
        self._offset = 0
        self._ahead = 0.0

    def begin(self, order: Mapping[str, Any]) -> None:
        """Hand the order over; the host begins at once. One that a hold of the same run precedes takes its place."""
        asked = time.monotonic()
        answer = self.line.call("order.begin", ANSWER_S, root=self.root, order={**order, "run": self.run})
        self.kind = order["kind"]
        self._offset = 0
        # The host's clock at which our own run began, the answer being half-way between question and now.
        self._ahead = answer["now"] - ((asked + time.monotonic()) / 2 - self.since)

    def follow(self, until: Callable[[str], bool], deadline_s: float) -> Mapping[str, Any] | None:
        """Watch until the host says its result, which is returned, or until a phase is reached (None).

        Raises RackhandError `connection-lost` when the host is out of reach for too long, `turn-timeout` when nothing
        comes of it in `deadline_s`; the order is open on the host then.
        """
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            seen = self._patiently("order.watch", offset=self._offset, wait_s=POLL_S)
            self._offset, self.waiting = seen["offset"], tuple(seen.get("instances") or ())
            for event in self._events(seen["events"]):
                self.phase = event.phase
                self.tell(event)
            if seen["result"] is not None and not seen["open"]:
                return dict(seen["result"])
            if until(seen["phase"]):
                return None
        what = f"the host did not come to the end of its turn within {deadline_s:.0f} s, last seen at '{self.phase}'"
        raise RackhandError("turn-timeout", what, self.line.name, f"nothing is undone from here: {BY_ITSELF}")

    def confirm(self) -> Mapping[str, Any]:
        """Tell the host that its result is known here; returns it. Without this word the host goes back."""
        return dict(self._patiently("order.confirm"))

    def abort(self, code: str, what: str) -> bool:
        """Have the order undone; `follow` it then until the result. Returns whether the host's program is at it."""
        return bool(self._patiently("order.abort", code=code, what=what))

    def words(self) -> str:
        """Say in a few words where the host is in its turn, and how far starting engines are."""
        starting = [f"{each['name']} {startup_phase(each['journal']) or 'starting'}" for each in self.waiting]
        return "; ".join(starting) if starting and self.phase == "start" else self.phase

    def _events(self, raw: list[Mapping[str, Any]]) -> Iterator[TurnEvent]:
        for each in raw:
            at_s = round(each["at"] - self._ahead, 3)
            yield TurnEvent(at_s=at_s, phase=each["phase"], instance=each["instance"], detail=each["detail"])

    def _patiently(self, function: str, **more: Any) -> Any:
        """Call over a connection that may be cut: the host goes on meanwhile, and says afterwards what happened."""
        deadline = 0.0
        while True:
            try:
                return self.line.call(function, CALL_S, root=self.root, run=self.run, **more)
            except RackhandError as error:
                away = self.phase in AWAY
                if error.code not in LOST and not (away and error.code in CUT_OFF):
                    raise
                deadline = deadline or time.monotonic() + RECONNECT_S + (self.reboot_s if away else 0)
                if not self._again(deadline):
                    raise self._given_up(error) from None

    def _again(self, deadline: float) -> bool:
        """Come back to the host; return whether that worked in time."""
        while time.monotonic() < deadline:
            if self.line.reconnect():
                return True
            gevent.sleep(RETRY_S)
        return False

    def _given_up(self, error: RackhandError) -> RackhandError:
        what = f"{error.what}; it was in its turn (last seen at '{self.phase or 'armed'}') and is out of reach"
        return RackhandError("connection-lost", what, self.line.name, BY_ITSELF)
