"""One host's part in a run: what is known of it and what happened to it. Steps read it and add to it."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rackhand import planner
from rackhand.errors import RackhandError
from rackhand.order import Order
from rackhand.outcome import Finding, InstanceOutcome, Problem, StepOutcome, TurnEvent
from rackhand.plan import Plan, Refusal
from rackhand.progress import Progress
from rackhand.render import ROOT, Release
from rackhand.rollout.board import Board
from rackhand.rollout.intent import Verdict
from rackhand.routing.front import Front
from rackhand.shelf import Shelved
from rackhand.survey import Survey
from rackhand.wishes import Wishes

GPU, ROUTER = "gpu", "router"
EVERY = ""


class Caller(Protocol):
    """What a run needs of a connection; rackhand.session.Session is the real one."""

    name: str
    commands: int

    def call(self, function: str, within_s: int = ..., **args: Any) -> Any: ...

    def put(self, source: Path, destination: str) -> None: ...

    def reboot(self, timeout_s: int) -> None: ...

    def reconnect(self) -> bool: ...


@dataclass
class HostRun:
    """Everything about one host in this run; steps read it and add to it.

    `target` is the release that the host is to serve: the one rendered for it (then `release` holds its files), or one
    that lies on the host and was chosen. `before` is the one that was current when the run began. `serving` is the id
    of the one that is current since the host's turn; None where the turn did not come to that.

    `order` is open on the host, `result` is what the host said of the last one. `turn_began_s` is when the host's
    turn began, in seconds since the run did; `barred` says why the rollout did not let it begin. `wants_turn` is
    known before anything runs. `driver_changed` says that the driver is not the one that the turn began with. `lost` is
    why its lease is no longer ours. `since` is time.monotonic at the run's beginning. `front` is what is wanted of the
    router that the host is, beside its own servers (role GPU) or instead of any (role ROUTER); None where it is none.
    `findings` are those of the last look at its GPUs' health.
    """

    name: str
    run: str
    session: Caller
    progress: Progress
    board: Board = field(default_factory=lambda: Board(sys.stderr, time.monotonic(), time.monotonic))
    role: str = GPU
    front: Front | None = None
    since: float = field(default_factory=time.monotonic)
    wishes: Wishes | None = None
    seen: Survey | None = None
    plan: Plan | None = None
    refusal: Refusal | None = None
    release: Release | None = None
    target: Shelved | None = None
    before: Shelved | None = None
    serving: str | None = None
    live: bool = False
    leased: bool = False
    lost: RackhandError | None = None
    order: Order | None = None
    result: Mapping[str, Any] | None = None
    events: list[TurnEvent] = field(default_factory=list)
    verdict: Verdict | None = None
    wants_turn: bool = False
    driver_changed: bool = False
    turn_began_s: float | None = None
    barred: str = ""
    findings: tuple[Finding, ...] | None = None
    gated: dict[str, InstanceOutcome] = field(default_factory=dict)
    steps: list[StepOutcome] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    finished: bool = False
    begun: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def intent(self) -> Wishes:
        if self.wishes is None:
            raise RackhandError("internal", "a step ran on a host without settings", self.name, "report this")
        return self.wishes

    @property
    def planned(self) -> Plan:
        if self.plan is None:
            raise RackhandError("internal", "a step ran on a host without a plan", self.name, "report this")
        return self.plan

    @property
    def wanted(self) -> Shelved:
        """The release that the host is to serve."""
        if self.target is None:
            raise RackhandError("internal", "a step ran on a host without a release", self.name, "report this")
        return self.target

    @property
    def went_back(self) -> bool:
        """Something failed in the host's turn, and the release before serves again."""
        return self.result is not None and self.result["verdict"] == "restored"

    @property
    def ready(self) -> bool:
        """It is known what is to be made of the host."""
        return self.plan is not None or (self.role == ROUTER and self.wishes is not None)

    def plays(self, role: str) -> bool:
        """Tell whether the host has a role; a router may have both."""
        return role in (EVERY, self.role) or (role == ROUTER and self.front is not None)

    def remember(self) -> None:
        """Keep in mind which release is current now, at the beginning of the run."""
        seen = self.survey()
        self.before = next((each for each in seen.shelf if each.id == seen.state.current), None)

    def survey(self) -> Survey:
        """Return what is known; ask the host again when a step changed something since."""
        if self.seen is None:
            self.seen = self.intent.survey(self.session)
        return self.seen

    def changed(self) -> None:
        """Forget what was known: the next step asks the host."""
        self.seen = None

    def call(self, function: str, within_s: int = 120, **args: Any) -> Any:
        return self.session.call(function, within_s, **args)

    @contextlib.contextmanager
    def waiting(
        self, what: str, deadline_s: float, log: str | None = None, detail: Callable[[], str | None] | None = None
    ) -> Iterator[None]:
        """Tell people every few seconds what this host is waiting for; `log` names a log under /var/log/rackhand."""
        ask = detail or ((lambda: self._progress(log)) if log else (lambda: None))
        with self.progress.waiting(self.name, what, deadline_s, ask):
            yield

    def _progress(self, log: str | None) -> str | None:
        answer = self.session.call("command.progress", 20, log=log)
        return str(answer) or None

    def replan(self) -> None:
        """Plan again from what is known now; raises RackhandError when the host no longer allows it."""
        verdict = planner.plan(self.name, self.survey(), self.intent)
        if isinstance(verdict, Refusal):
            first = verdict.reasons[0]
            raise RackhandError(first.code, first.what, first.where, first.next_step, first.evidence)
        self.plan = verdict

    def note(self, step: str, **facts: Any) -> None:
        """Write one line to the host's ledger."""
        self.call("files.record", root=ROOT, entry={"run": self.run, "step": step, **facts})

    def finish(self) -> None:
        """Say that every step of this host is through."""
        self.finished = True
        self.ended = time.monotonic()

    def error(self, code: str, what: str, next_step: str, evidence: tuple[str, ...] = ()) -> RackhandError:
        return RackhandError(code, what, self.name, next_step, evidence)
