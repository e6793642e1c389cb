"""One run over a fleet: what is known and what happened, per host, and the report at its end."""

import atexit
import contextlib
import os
import secrets as random
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from rackhand import planner, report
from rackhand.errors import RackhandError
from rackhand.outcome import HostOutcome, HostStatus, InstanceOutcome, Problem, RunOutcome, StepOutcome
from rackhand.plan import Plan, Refusal
from rackhand.progress import Progress
from rackhand.render import ROOT, Release
from rackhand.settings import DEFAULTS
from rackhand.survey import Survey
from rackhand.wishes import Wishes


class Caller(Protocol):
    """What a run needs of a connection; rackhand.session.Session is the real one."""

    name: str
    commands: int

    def call(self, function: str, within_s: int = ..., **args: Any) -> Any: ...

    def put(self, source: Path, destination: str) -> None: ...

    def reboot(self, timeout_s: int) -> None: ...


@dataclass
class HostRun:
    """Everything about one host in this run; steps read it and add to it."""

    name: str
    run: str
    session: Caller
    progress: Progress
    wishes: Wishes | None = None
    seen: Survey | None = None
    plan: Plan | None = None
    refusal: Refusal | None = None
    release: Release | None = None
    live: bool = False
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


class Run:
    """All hosts of this process's run; `finish` is called once at the end, however the end comes about."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{random.token_hex(3)}"
        self.started = datetime.now(UTC)
        self.hosts: dict[str, HostRun] = {}
        self.unreachable: tuple[str, ...] = ()
        self.expected: frozenset[str] = frozenset()
        self.executing = False
        self.report_dir = str(DEFAULTS["report_dir"])
        self.write = write
        self.progress = Progress(write)
        self.terminated = 0

    def begin(self, expected: frozenset[str], unreachable: tuple[str, ...]) -> None:
        """Remember who takes part, and make sure that the report is written even after a crash or Ctrl-C."""
        self.expected, self.unreachable = expected, unreachable
        atexit.register(self.finish)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._terminate)

    def _terminate(self, number: int, _frame: object) -> None:
        """End at once: an exception would come up in whatever greenlet runs now, and might leave the others waiting."""
        self.terminated = number
        with contextlib.suppress(OSError):
            self.write("Interrupted: steps that hosts have begun go on there; run again to continue from there.")
        self.finish()

    @property
    def complete(self) -> bool:
        """All expected hosts have a plan, a refusal or a problem."""
        return all(self._decided(name) for name in self.expected)

    def _decided(self, name: str) -> bool:
        host = self.hosts.get(name)
        return host is not None and bool(host.plan or host.refusal or host.problems)

    def finish(self) -> None:
        """Print the table, write the report, and leave with a failure where pyinfra would exit 0 (Ctrl-C)."""
        outcome = self.outcome()
        # The file comes first: the terminal may be gone.
        written, where = (True, "") if outcome.dry else self._report(outcome)
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
        """Write the report file; tell whether that worked, and where it is or why not."""
        try:
            path = report.write(outcome, Path(self.report_dir))
        except RackhandError as error:
            return False, str(error)
        return True, f"Report: {path}"

    def outcome(self) -> RunOutcome:
        """Freeze what happened."""
        finished = datetime.now(UTC)
        hosts = [self._host(self.hosts[name]) for name in sorted(self.hosts)]
        hosts += [_unreachable(name) for name in self.unreachable]
        return RunOutcome(
            run=self.id,
            command=shlex.join(["pyinfra", *sys.argv[1:]]),
            dry=not self.executing and "--dry" in sys.argv,
            started=self.started.isoformat(timespec="seconds"),
            finished=finished.isoformat(timespec="seconds"),
            seconds=round((finished - self.started).total_seconds(), 1),
            hosts=tuple(hosts),
        )

    def _host(self, host: HostRun) -> HostOutcome:
        plan, settings = host.plan, host.wishes.settings if host.wishes else None
        instances = [host.gated.get(item.name) or _ungated(plan, item.name) for item in plan.instances] if plan else []
        return HostOutcome(
            name=host.name,
            status=self._status(host),
            gpus=plan.cards if plan else (host.refusal.cards if host.refusal else ""),
            driver=(host.seen.nvml.driver if host.seen else "") or (plan.driver.version if plan else ""),
            vllm=settings.engine_version if settings else "",
            model=settings.model_name if settings else "",
            release=host.release.id if host.release else "",
            plan=plan.words if plan else (),
            instances=tuple(instances),
            steps=tuple(host.steps),
            problems=(*host.problems, *(host.refusal.reasons if host.refusal else ())),
            warnings=tuple(host.warnings),
            seconds=round((host.ended or time.monotonic()) - host.begun, 1),
            ssh_commands=host.session.commands,
        )

    def _status(self, host: HostRun) -> HostStatus:
        if host.refusal:
            return HostStatus.REFUSED
        if host.problems:
            return HostStatus.FAILED
        if not self.executing:
            blocked = any(other.refusal or other.problems for other in self.hosts.values())
            return HostStatus.NOT_RUN if blocked or host.plan is None else HostStatus.PLANNED
        if not host.finished:
            return HostStatus.INTERRUPTED
        return HostStatus.HEALTHY if any(step.changed for step in host.steps) else HostStatus.UNCHANGED


def _ungated(plan: Plan, name: str) -> InstanceOutcome:
    instance = plan.instance(name)
    return InstanceOutcome(name=name, port=instance.port, gpus=plan.uuids(instance))


def _unreachable(name: str) -> HostOutcome:
    problem = Problem(
        code="unreachable",
        what="no SSH connection",
        where=name,
        next_step="check the host, its address and your key; then run again",
    )
    return HostOutcome(name=name, status=HostStatus.UNREACHABLE, problems=(problem,))


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 140
