"""The host's own program for its turn: carry out the open order, and put back what worked whenever that fails.

It may be killed at any instruction. Started again by systemd, also after a boot, it finds the order still open and goes
back; whether an order is over is decided by one write, that of its result.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rackhand.remote import absence, drain, manifest, occupancy, service, state, turn_files, turn_result
from rackhand.remote.bring import Bringing, retire
from rackhand.remote.problem import Problem
from rackhand.remote.stopping import Stopping
from rackhand.remote.turn_back import Back
from rackhand.remote.turn_log import Failed, Log

POLL_S = 0.1
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def main() -> None:
    """Carry out the order of the host whose program this is; SIGTERM leaves it open, for the next boot to undo."""
    work(Path(sys.argv[0]).absolute().parent.parent)


def work(base: Path) -> None:
    """Carry out what is asked until nothing is, and then start at boot no more."""
    while turn_files.order(base) is not None:
        Turn(base).take()
    turn_files.forget(base)
    # Not by `systemctl disable --no-reload`: newer systemd then asks of every unit of the host to be read again.
    (state.WANTS / state.PROGRAM).unlink(missing_ok=True)


class Turn:
    """One order, on its way forward."""

    def __init__(self, base: Path) -> None:
        order = turn_files.order(base) or dict(turn_files.DEFAULTS)
        self.base = base
        self.order = order if "back" in order else {**order, **manifest.standing(base)}
        self.run = self.order["run"]
        self.log = Log(base, self.order)

    def take(self) -> None:
        """Begin the order, or go on with one that was begun; returns when it is closed, or another took its place."""
        progress, outcome = self.log.progress, turn_files.result(self.base, self.run)
        if outcome is not None:
            turn_result.tidy(self.base, self.log, outcome)
        elif not progress.get("begun", True):
            self._attempt(self._begin)
        elif self._holds():
            self._attempt(self._go_on_holding)
        else:
            Back(self.base, self.log).recover()

    def _holds(self) -> bool:
        """Tell whether servers are to stay stopped: what failed goes back, also after a boot."""
        left_s = self.log.progress.get("held_until", 0.0) - time.time()
        return self.order["kind"] == "hold" and left_s > 0 and "failure" not in self.log.progress

    def _attempt(self, forward: Callable[[], Bringing | None]) -> None:
        """Go forward, and close the order with what came of it, if anything; whatever is in the way leads back."""
        try:
            bringing = forward()
        except (Failed, Problem, manifest.Unreadable, OSError) as error:
            Back(self.base, self.log).fall(_reason(error))
            return
        if bringing:
            turn_result.close(self.base, self.log, "accepted", None, bringing.results)

    def _begin(self) -> Bringing | None:
        self.log.remember(begun=True)
        self.log.note(verdict="begun", kind=self.order["kind"], purpose=self.order["purpose"], to=self.order["to"])
        self.log.insist()
        self.log.tell("armed")
        self.log.serving(service.names(self.base))
        return self._hold() if self.order["kind"] == "hold" else self._go_over()

    def _go_over(self) -> Bringing:
        """Bring the new release into service, and keep it once the controller says that it knows."""
        to, back = self.order["to"], self.order["back"]
        bringing = Bringing(self.base, self.order, self.log, to)
        bringing.go()
        undoes = self.order["purpose"] == "rollback" and not manifest.went_back(self.base, back)
        turn_result.judge(self.base, self.log, to, "passed", bringing.results, back="rollback" if undoes else "")
        self.log.remember(accepted=True)
        self.log.tell("accepted")
        if back not in ("", to):
            self._await_confirmation()
        return bringing

    def _await_confirmation(self) -> None:
        limit_s = self.order["confirm_s"]
        deadline = time.monotonic() + limit_s
        while not turn_files.confirmed(self.base, self.run):
            self.log.pulse()
            if time.monotonic() > deadline:
                what = f"the new release served, and the controller did not confirm it within {limit_s} s"
                raise Failed("not-confirmed", what)
            time.sleep(POLL_S)
        self.log.tell("confirmed")

    def _hold(self) -> Bringing | None:
        """Take everything out of service, so that the driver can be changed; nothing of it starts at a boot."""
        names = sorted(occupancy.here())
        retire(Stopping(self.order, self.log), self.base, names)
        self.log.remember(held_until=self.order["created"] + self.order["hold_s"], held=names)
        return self._go_on_holding()

    def _go_on_holding(self) -> Bringing | None:
        """Wait for the switch that ends this; returns when its order has taken the place of this one."""
        for name in self.log.progress.get("held", ()):
            drain.say(name, drain.DRAIN)
        self.log.tell("held")
        left_s = min(self.order["hold_s"], self.log.progress["held_until"] - time.time())
        deadline = time.monotonic() + left_s
        while time.monotonic() < deadline:
            self.log.pulse()
            if absence.is_over(self.base, self.run):
                raise Failed("controller-silent", "the run that holds the servers stopped has no lease any more")
            asked = turn_files.order(self.base)
            if asked and asked["kind"] == "switch" and asked["run"] == self.run:
                return None
            time.sleep(POLL_S)
        what = f"the controller did not come back within the {self.order['hold_s']} s that it had asked for"
        raise Failed("hold-over", what)


def _reason(error: Exception) -> Failed:
    """Say in the words of an order why it cannot be carried out."""
    if isinstance(error, Failed):
        return error
    if isinstance(error, Problem):
        return Failed(error.code, error.what)
    if isinstance(error, manifest.Unreadable):
        return Failed("release-missing", str(error))
    full = isinstance(error, OSError) and error.errno in FULL
    return Failed("disk-full" if full else "turn-failed", f"{type(error).__name__}: {error}")
