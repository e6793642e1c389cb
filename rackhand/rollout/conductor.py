"""Gives hosts their turns, wave by wave; every host's operation only waits for its own result.

pyinfra runs one operation on all hosts, but in a pool that may hold fewer hosts than there are. So the conductor
waits for nobody to arrive: the first operation that asks sets it going, and it runs every host's work in greenlets of
its own.
"""

import time
from collections.abc import Callable, Sequence

import gevent  # type: ignore[import-untyped]

from rackhand.outcome import WaveOutcome
from rackhand.rollout.board import Board
from rackhand.rollout.intent import Intent, Member, Result, Verdict
from rackhand.rollout.policy import Policy


class Conductor:
    """One per run.

    + fleet: called once, when the turns begin: everyone that was chosen for the run, in inventory order; those that are
      unreachable or failed before have `present=False`; they count as failures and are never waited for
    + look: name of a host → what it wants. Quick, changes nothing; runs for all present hosts at once, before any turn
    + work: name of a host → how it ended. Called once per host that may begin: in its turn, or at once where it
      disturbs nothing (it is gated meanwhile). It must end by itself: everything in it has a deadline
    + since: the clock's time at which the run began (time.monotonic)

    Exceptions of `look` and `work` count as failures of that host; `attend` raises them again. Neither runs in
    pyinfra's context: wrap them in ``ctx_host.use(host)`` where they need it.
    """

    def __init__(
        self,
        policy: Policy,
        fleet: Callable[[], Sequence[Member]],
        look: Callable[[str], Intent],
        work: Callable[[str], Result],
        board: Board,
        since: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = gevent.sleep,
    ) -> None:
        raise NotImplementedError

    def attend(self, name: str) -> Verdict:
        """Wait for the end of this host's part in the rollout; the first call sets the rollout going.

        Raises what the host's `look` or `work` raised. Raises RackhandError `settings` (an unknown canary) or
        `capacity` (replicas that can never be kept) on every host when the rollout cannot begin: nothing was changed.
        """
        raise NotImplementedError

    @property
    def waves(self) -> tuple[WaveOutcome, ...]:
        """The waves as they were planned and went so far; empty before the turns and where nobody needed one."""
        raise NotImplementedError

    @property
    def stopped(self) -> str:
        """Why no further host began, in one sentence; empty while nothing stopped it."""
        raise NotImplementedError
