"""Gives hosts their turns, wave by wave; every host's operation only waits for its own result.

pyinfra runs one operation on all hosts, but in a pool that may hold fewer hosts than there are. So the conductor
waits for nobody to arrive: the first operation that asks sets it going, and it runs every host's work in greenlets of
its own.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import gevent  # type: ignore[import-untyped]
from gevent.event import AsyncResult, Event  # type: ignore[import-untyped]
from gevent.lock import BoundedSemaphore  # type: ignore[import-untyped]

from rackhand.errors import RackhandError
from rackhand.outcome import WaveOutcome
from rackhand.rollout import capacity
from rackhand.rollout.board import Board
from rackhand.rollout.intent import Intent, Member, Result, Verdict
from rackhand.rollout.policy import Policy
from rackhand.rollout.standing import Standing
from rackhand.rollout.waves import canaries, plan_waves

AT_ONCE = 200  # hosts that are asked, or gated without a turn, at the same time
NO_TURN = "it takes no part: it was unreachable or failed before the turns began"


class Conductor:
    """One per run.

    + fleet: called once, when the turns begin: everyone that was chosen for the run, in inventory order; those that are
      unreachable or failed before have `present=False`; they count as failures and are never waited for
    + look: name of a host → what it wants. Quick, changes nothing; runs for all present hosts at once, before any turn
    + work: name of a host → how it ended. Called once per host that may begin: in its turn, or at once where it
      disturbs nothing (it is gated meanwhile). It must end by itself: everything in it has a deadline
    + aside: called when the turns begin: what hosts serve, and ought to, that take no part in the rollout
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
        aside: Callable[[], Sequence[Intent]] = tuple,
    ) -> None:
        self.policy, self._fleet, self._look, self._work = policy, fleet, look, work
        self._board, self._since, self._clock, self._sleep = board, since, clock, sleep
        self._aside = aside
        self.waves: tuple[WaveOutcome, ...] = ()
        self.stopped = ""
        self._answers: dict[str, AsyncResult] = defaultdict(AsyncResult)
        self._intents: dict[str, Intent] = {}
        self._in_turn: set[str] = set()
        self._news = Event()
        self._places = BoundedSemaphore(AT_ONCE)
        self._loop: gevent.Greenlet | None = None
        self._fault: BaseException | None = None

    def attend(self, name: str) -> Verdict:
        """Wait for the end of this host's part in the rollout; the first call sets the rollout going.

        Raises what the host's `look` or `work` raised. Raises RackhandError `capacity` on every host that wants a turn
        when the servers of a model can never be kept; nothing was disturbed then.
        """
        if self._loop is None:
            self._loop = gevent.spawn(self._conduct)
        if self._fault and name not in self._answers:
            raise self._fault
        verdict: Verdict = self._answers[name].get()
        return verdict

    def _conduct(self) -> None:
        try:
            self._turns(self._fleet())
        except BaseException as fault:  # nobody may wait for ever for a conductor that is gone
            self._fault = fault
            for answer in self._answers.values():
                if not answer.ready():
                    answer.set_exception(fault)
        finally:
            self._board.close()

    def _turns(self, fleet: Sequence[Member]) -> None:
        lost = self._ask(fleet)
        wanting = [name for name, intent in self._intents.items() if intent.disturbs]
        waves = plan_waves(wanting, fleet, self.policy)
        canary = {*canaries(fleet, self.policy.canary), *(waves[0] if waves else ())}
        standing = Standing(self.policy, self._intents, canary, self._aside())
        for name, how in lost:
            standing.failed(name, how)
        try:
            capacity.check(standing.capacity, self._intents, waves)
        except RackhandError as refusal:
            self._refuse(waves, refusal)
            waves = ()
        self._pass(standing, (name for name, intent in self._intents.items() if not intent.disturbs))
        if waves:
            self._go(standing, waves)

    def _ask(self, fleet: Sequence[Member]) -> list[tuple[str, str]]:
        """Ask everybody what it wants; return who cannot take part, and how that came."""
        present = [member.name for member in fleet if member.present]
        found: dict[str, Intent] = {}
        gevent.joinall([gevent.spawn(self._ask_one, name, found) for name in present])
        self._intents = {name: found[name] for name in present if name in found}
        absent = [member for member in fleet if not member.present]
        for member in absent:
            self._answers[member.name].set(Verdict(admitted=False, reason=NO_TURN))
        return [(each.name, each.how) for each in absent] + [(name, "failed") for name in present if name not in found]

    def _ask_one(self, name: str, found: dict[str, Intent]) -> None:
        try:
            with self._places:
                found[name] = self._look(name)
        except BaseException as error:
            self._answers[name].set_exception(error)

    def _refuse(self, waves: Iterable[Sequence[str]], refusal: RackhandError) -> None:
        self.stopped = f"{refusal.where}: {refusal.what}"
        self.waves = numbered(waves)
        for wave in waves:
            for name in wave:
                self._answers[name].set_exception(refusal)

    def _pass(self, standing: Standing, names: Iterable[str]) -> None:
        """Let those that disturb nothing do their work, beside the waves."""
        for name in tuple(names):
            standing.doubt(name)
            gevent.spawn(self._pass_one, standing, name)

    def _pass_one(self, standing: Standing, name: str) -> None:
        with self._places:
            began = self._now()
            result, error = self._done(name)
        standing.proved(name, result)
        self._settle(name, Verdict(admitted=True, began_s=began, ended_s=self._now(), result=result), error)

    def _go(self, standing: Standing, waves: Sequence[Sequence[str]]) -> None:
        self.waves = numbered(waves)
        self._board.planned(waves)
        for number, wave in enumerate(waves, start=1):
            self._wave(standing, number, list(wave))
            if number < len(waves) and not standing.stopped:
                self._soak(standing, number)

    def _wave(self, standing: Standing, number: int, waiting: list[str]) -> None:
        """Give the hosts of one wave their turns; return when all of them are through."""
        while waiting or self._in_turn:
            self._admit(standing, number, waiting)
            if waiting and not (self._in_turn or standing.unproven or standing.stopped):
                standing.stall(waiting[0])
            if standing.stopped:
                self._bar(waiting, number, standing.stopped)
            if waiting or self._in_turn:
                self._news.wait()
                self._news.clear()
        if self.waves[number - 1].began_s is not None:
            self._mark(replace(self.waves[number - 1], ended_s=self._now()))

    def _admit(self, standing: Standing, number: int, waiting: list[str]) -> None:
        for name in tuple(waiting):
            if standing.may_begin(name):
                waiting.remove(name)
                standing.begun(name)
                self._in_turn.add(name)
                self._begun(number)
                self._board.began(name)
                gevent.spawn(self._turn, standing, number, name)

    def _begun(self, number: int) -> None:
        if self.waves[number - 1].began_s is None:
            self._mark(replace(self.waves[number - 1], began_s=self._now()))
            self._board.wave(number)

    def _turn(self, standing: Standing, number: int, name: str) -> None:
        began = self._now()
        result, error = self._done(name)
        self._in_turn.discard(name)
        standing.ended(name, result)
        self._settle(
            name, Verdict(admitted=True, wave=number, began_s=began, ended_s=self._now(), result=result), error
        )
        self._board.ended(name, result)

    def _done(self, name: str) -> tuple[Result, BaseException | None]:
        """Do a host's work; an exception is a failure after which nothing of the host is believed to be healthy."""
        try:
            return self._work(name), None
        except BaseException as error:
            return Result(good=False, how="failed"), error

    def _settle(self, name: str, verdict: Verdict, error: BaseException | None) -> None:
        if error is None:
            self._answers[name].set(verdict)
        else:
            self._answers[name].set_exception(error)
        self._news.set()

    def _bar(self, waiting: list[str], number: int, why: str) -> None:
        """Tell everybody who waits that it will not begin."""
        if waiting and not self.stopped:
            self.stopped = why
            self._board.stopped(why)
        for name in waiting:
            self._answers[name].set(Verdict(admitted=False, wave=number, reason=why))
        waiting.clear()

    def _soak(self, standing: Standing, number: int) -> None:
        until = self._clock() + self.policy.soak_s
        if self.policy.soak_s:
            self._board.soaking(number, self.policy.soak_s)
        while (left := until - self._clock()) > 0 and not standing.stopped:
            self._sleep(min(1.0, left))

    def _mark(self, wave: WaveOutcome) -> None:
        self.waves = tuple(wave if each.number == wave.number else each for each in self.waves)

    def _now(self) -> float:
        return round(self._clock() - self._since, 1)


def numbered(waves: Iterable[Sequence[str]]) -> tuple[WaveOutcome, ...]:
    """Return waves as a report has them before they begin, numbered from 1."""
    return tuple(WaveOutcome(number=number, hosts=tuple(wave)) for number, wave in enumerate(waves, start=1))
