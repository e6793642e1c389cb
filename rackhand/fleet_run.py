"""One run over a fleet: its hosts, its lease, its end, and the report there."""

import atexit
import contextlib
import os
import secrets as random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from socket import gethostname

import gevent  # type: ignore[import-untyped]

from rackhand import outcomes, report
from rackhand.errors import RackhandError
from rackhand.outcome import RunOutcome
from rackhand.progress import Progress
from rackhand.renewal import Renewal, give_back
from rackhand.rollout.board import Board
from rackhand.rollout.conductor import Conductor
from rackhand.rollout.waves import Waves
from rackhand.run import HostRun
from rackhand.settings import DEFAULTS

# Longest wait at the end for hosts to take back an open order or a lease, in seconds; they do without, too.
FAREWELL_S = 8


class Run:
    """All hosts of this process's run; `finish` is called once at the end, however the end comes about.

    `purpose` is "deploy" or "rollback". `conductor` is there once hosts may get their turns; `foreseen` are the waves
    of a run that only looks.
    """

    def __init__(self, write: Callable[[str], None], purpose: str = "deploy") -> None:
        self.id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{random.token_hex(3)}"
        self.purpose = purpose
        self.owner = f"{_user()}@{gethostname()}"
        self.started = datetime.now(UTC)
        self.since = time.monotonic()
        self.hosts: dict[str, HostRun] = {}
        self.unreachable: tuple[str, ...] = ()
        self.expected: frozenset[str] = frozenset()
        self.executing = False
        self.report_dir = str(DEFAULTS["report_dir"])
        self.write = write
        self.board = Board(sys.stderr, self.since, time.monotonic)
        self.progress = Progress(write, self.board.takes)
        self.renewal = Renewal(self.id)
        self.conductor: Conductor | None = None
        self.foreseen: Waves = ()
        self.terminated = 0

    @property
    def looks(self) -> bool:
        """Nothing will be changed, whatever comes of it."""
        return "--dry" in sys.argv

    @property
    def dry(self) -> bool:
        return not self.executing and self.looks

    def begin(self, expected: frozenset[str], unreachable: tuple[str, ...]) -> None:
        """Remember who takes part, and make sure that the report is written even after a crash or Ctrl-C."""
        self.expected, self.unreachable = expected, unreachable
        atexit.register(self.finish)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._terminate)

    def _terminate(self, number: int, _frame: object) -> None:
        """End at once: an exception would come up in whatever greenlet runs now, and might leave the others waiting.

        Where hosts are in their turn or hold a lease, they are told first; a second signal does not wait for that.
        """
        again, self.terminated = bool(self.terminated), number
        if not again:
            with contextlib.suppress(OSError):
                self.write(
                    "Interrupted: hosts in their turn go back, other steps end there by themselves; then run again."
                )
        if again or not self._holding():
            self._conclude()
        else:
            # A signal's handler may not wait for a connection, only a greenlet may.
            gevent.spawn(self.finish)

    def _holding(self) -> list[HostRun]:
        return [host for host in self.hosts.values() if host.order or host.leased]

    @property
    def complete(self) -> bool:
        """All expected hosts have a plan, a refusal or a problem."""
        return all(self._decided(name) for name in self.expected)

    def _decided(self, name: str) -> bool:
        host = self.hosts.get(name)
        return host is not None and bool(host.ready or host.refusal or host.problems)

    def finish(self) -> None:
        """Take back what is still open on hosts, as far as that is quickly done, and conclude."""
        if holding := self._holding():
            gevent.joinall([gevent.spawn(give_back, host) for host in holding], timeout=FAREWELL_S)
        self._conclude()

    def _conclude(self) -> None:
        """Print the table, write the report, and leave with a failure where pyinfra would exit 0 (Ctrl-C)."""
        outcome = self.outcome()
        # The file comes first: the terminal may be gone.
        written, where = (True, "") if outcome.dry else self._report(outcome)
        self.board.close()
        with contextlib.suppress(OSError):
            self.write(report.plan_text(outcome) if outcome.dry else report.table(outcome, _width()))
            if where:
                self.write(where)
        if self.terminated or not outcome.good or not written:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(128 + self.terminated if self.terminated else 1)

    def _report(self, outcome: RunOutcome) -> tuple[bool, str]:
        """Write the report files; tell whether that worked, and where it is or why not."""
        try:
            written = report.write(outcome, Path(self.report_dir))
        except RackhandError as error:
            return False, str(error)
        return True, f"Report: {written.words}"

    def outcome(self) -> RunOutcome:
        """Freeze what happened."""
        return outcomes.of(self)


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 140
