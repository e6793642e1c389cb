"""The one pyinfra operation: make one thing true on one host, or say that it already is."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from traceback import extract_tb
from typing import Any

import click
from pyinfra import host, logger, state
from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from rackhand import planner, wishes
from rackhand.errors import RackhandError
from rackhand.outcome import Problem, StepOutcome
from rackhand.plan import Refusal
from rackhand.run import HostRun, Run
from rackhand.session import Session
from rackhand.ssh import tune

A_DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a step wants to do, in words, and the doing; `apply` raises RackhandError when it fails."""

    summary: str
    apply: Callable[[], None]


Step = Callable[[HostRun], Change | None]


class RefusedError(PyinfraError):
    """Ends a run before anything was changed on any host."""


@cache
def current_run() -> Run:
    """Return this process's run; pyinfra executes deploy.py once per host, in one process."""
    real: State = ctx_state.get()  # type: ignore[no-untyped-call]
    chosen = {each.name for each in (real.limit_hosts or real.inventory)}
    active = frozenset(each.name for each in real.active_hosts)
    run = Run(lambda line: click.echo(line, err=True))
    run.begin(active, tuple(sorted(chosen - active)))
    return run


def survey_and_plan() -> None:
    """Read and plan this host before any host changes; once all are read, a refusal stops the whole run."""
    run = current_run()
    this: Host = ctx_host.get()  # type: ignore[no-untyped-call]
    tune(this)
    current = HostRun(name=this.name, run=run.id, session=Session(this), progress=run.progress)
    run.hosts[this.name] = current
    data: dict[str, Any] = this.data.dict()  # type: ignore[no-untyped-call]
    run.report_dir = str(data.get("report_dir") or run.report_dir)  # even when the settings turn out to be wrong
    try:
        current.wishes = wishes.resolve(data, this.name)
        verdict = planner.plan(this.name, current.survey(), current.wishes)
        if isinstance(verdict, Refusal):
            current.refusal = verdict
        else:
            current.plan = verdict
    except Exception as error:
        current.problems.append(_problem(current, error))
    _announce(current)
    if run.complete:
        _stop_when_refused(run)


def _announce(current: HostRun) -> None:
    for problem in (*current.problems, *(current.refusal.reasons if current.refusal else ())):
        logger.error(f"    {click.style('refused', 'red')} {_line(problem)}")


def _line(problem: Problem) -> str:
    return f"{problem.where}: {problem.what} [{problem.code}] → {problem.next_step}"


def _stop_when_refused(run: Run) -> None:
    """Nothing changes anywhere until every host has a plan; hosts that merely fell silent do not hold up the others."""
    wrong = [each for each in run.hosts.values() if each.refusal or each.problems]
    blocking = [
        each
        for each in wrong
        if each.refusal or any(problem.code not in ("connection-lost", "timeout") for problem in each.problems)
    ]
    skips = all(each.wishes and each.wishes.settings.preflight_on_refusal == "skip" for each in blocking)
    if blocking and not skips:
        names = ", ".join(sorted(each.name for each in blocking))
        raise RefusedError(f"nothing was changed on any host: {len(blocking)} of {len(run.hosts)} refused ({names})")


def make_true(step: Step, title: str) -> None:
    """Queue one step under a title; it has its own deadlines, so pyinfra's default timeout is lifted."""
    converge(step=step, title=title, name=title, _timeout=A_DAY_S)


@operation()
def converge(step: Step, title: str) -> Generator[FunctionCommand, None, None]:
    """
    Look whether ``step`` has anything to do on this host and do it.

    + step: function of a HostRun that returns a Change, or None when nothing is to be done
    + title: what the step is called in the report
    """
    run = current_run()
    current = run.hosts[host.name]
    live = state.current_stage == StateStage.Execute
    run.executing = run.executing or live
    current.live = live
    begun = time.monotonic()
    try:
        change = _decide(step, current, live)
    except Exception as error:
        yield FunctionCommand(_fail, (current, title, error), {})
        return
    if change is None:
        if live:
            current.steps.append(
                StepOutcome(name=title, changed=False, summary="", seconds=round(time.monotonic() - begun, 1))
            )
        host.noop(title)
        return
    yield FunctionCommand(_apply, (current, title, change, begun), {})


def _decide(step: Step, current: HostRun, live: bool) -> Change | None:
    if current.plan is None:
        if not live:
            return None
        first = (*current.problems, *(current.refusal.reasons if current.refusal else ()))[0]
        raise RackhandError(first.code, first.what, first.where, first.next_step, first.evidence)
    return step(current)


def _apply(state: State, host: Host, current: HostRun, title: str, change: Change, begun: float) -> bool:
    host.log(f"{title}: {change.summary}")
    failure: Exception | None = None
    try:
        change.apply()
    except Exception as error:
        failure = error
    current.changed()
    current.ended = time.monotonic()
    # A step that failed may have changed something before it did: the report must not say that nothing changed.
    summary = f"{change.summary}: failed" if failure else change.summary
    seconds = round(current.ended - begun, 1)
    current.steps.append(StepOutcome(name=title, changed=True, summary=summary, seconds=seconds))
    return True if failure is None else _fail(state, host, current, title, failure)


def _fail(state: State, host: Host, current: HostRun, title: str, error: Exception) -> bool:
    problem = _problem(current, error)
    if problem not in current.problems and not current.refusal:
        current.problems.append(problem)
    current.ended = time.monotonic()
    logger.error(f"    {click.style(title, 'red')} {_line(problem)}")
    for line in problem.evidence[-8:]:
        logger.error(f"        {line}")
    return False


def _problem(current: HostRun, error: Exception) -> Problem:
    """Describe a failure; what is no RackhandError is a fault of ours, and its frames belong into the report."""
    if isinstance(error, RackhandError):
        return Problem.of(error)
    frames = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)]
    what = f"rackhand failed: {type(error).__name__}: {error}"
    unexpected = RackhandError("internal", what, current.name, "report this with the lines below", tuple(frames[-6:]))
    return Problem.of(unexpected)
