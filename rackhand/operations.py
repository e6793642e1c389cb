"""pyinfra's side of a run: survey every host, then make one thing after the other true on all of them."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import click
from pyinfra import host, logger, state
from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from rackhand import at_work, checkup, planner, preflight, wishes
from rackhand.driver import handover
from rackhand.errors import RackhandError
from rackhand.fleet_run import Run
from rackhand.frozen import validated
from rackhand.hardware import PciDevice, identify
from rackhand.outcome import Problem
from rackhand.plan import Refusal
from rackhand.render import ROOT
from rackhand.renewal import give_back
from rackhand.rollout.intent import Member
from rackhand.rollout.policy import Policy, agreed
from rackhand.rollout.waves import refuse_unknown
from rackhand.routing import checks, front
from rackhand.routing.facts import RouterFacts
from rackhand.run import EVERY, GPU, ROUTER, HostRun
from rackhand.session import Session
from rackhand.ssh import tune
from rackhand.steps import Change, Step, blame, carry_out, decide, done, explain, line

__all__ = ["EVERY", "GPU", "ROUTER", "Change", "Step", "current_run", "make_true", "prepare", "survey_and_plan"]

A_DAY_S = 86_400
ROUTERS = "routers"  # the group of an inventory whose hosts are routers


class RefusedError(PyinfraError):
    """Ends a run before anything was changed on any host."""


@cache
def current_run() -> Run:
    """Return this process's run; pyinfra executes deploy.py once per host, in one process."""
    run = Run(lambda text: click.echo(text, err=True))
    fleet = members(run)
    present = frozenset(each.name for each in fleet if each.present)
    run.begin(present, tuple(sorted(each.name for each in fleet if not each.present)))
    return run


def members(run: Run) -> tuple[Member, ...]:
    """Return everyone that was chosen for this run, in the order of the inventory."""
    real: State = ctx_state.get()  # type: ignore[no-untyped-call]
    chosen = {each.name for each in (real.limit_hosts or real.inventory)}
    return tuple(_member(run, each, each in real.active_hosts) for each in real.inventory if each.name in chosen)


def _member(run: Run, each: Host, active: bool) -> Member:
    current = run.hosts.get(each.name)
    failed = current is not None and bool(current.problems)
    how = "failed" if failed else "unreachable"
    return Member(name=each.name, groups=tuple(each.groups), present=active and not failed, how=how)


def survey_and_plan() -> None:
    """Read and plan this host before any host changes; once all are read, a refusal stops the whole run."""
    prepare(_plan, "deploy")


Look = Callable[[HostRun, Mapping[str, Any]], None]


def prepare(look: Look, purpose: str, compare: Callable[[Mapping[str, HostRun]], None] = lambda _: None) -> None:
    """Look at this host, with its data; `look` sets wishes and either plan or refusal, and may raise anything.

    `compare` is called once all hosts were looked at, and may change its mind about some of them.
    """
    run = current_run()
    run.purpose = purpose
    this: Host = ctx_host.get()  # type: ignore[no-untyped-call]
    tune(this)
    current = _enter(run, this)
    data: dict[str, Any] = this.data.dict()  # type: ignore[no-untyped-call]
    run.report_dir = str(data.get("report_dir") or run.report_dir)  # even when the settings turn out to be wrong
    try:
        if ROUTERS in this.groups:
            _meet(current, data)
        look(current, data)
        at_work.refuse(current, looks=run.looks)
    except Exception as error:
        current.problems.append(explain(current, error))
    if run.complete:
        compare(run.hosts)
        _agree(run, current)
        for each in run.hosts.values():
            _announce(each)
        _stop_when_refused(run)


def _enter(run: Run, this: Host) -> HostRun:
    current = run.hosts[this.name] = HostRun(
        name=this.name,
        run=run.id,
        session=Session(this),
        progress=run.progress,
        board=run.board,
        since=run.since,
    )
    return current


def _meet(current: HostRun, data: Mapping[str, Any]) -> None:
    """Get to know a router, which may have GPUs of its own; without any it needs no model."""
    current.role = ROUTER
    current.front = front.resolve(data, current.name)
    current.wishes = wishes.bare(current.front.settings)
    facts = validated(RouterFacts, current.call("router.look", root=ROOT, names=[]), current.name)
    if identify(PciDevice.of(each.model_dump()) for each in facts.pci).gpus:
        current.role, current.wishes = GPU, None
    if facts.foreign:
        what = "HAProxy has a configuration here that rackhand did not write"
        step = "put back the package's own /etc/haproxy/haproxy.cfg, or take the host out of the group routers"
        raise current.error("router-foreign", what, step)


def _plan(current: HostRun, data: Mapping[str, Any]) -> None:
    if current.role != GPU:
        return
    current.wishes = wishes.resolve(data, current.name)
    verdict = checkup.before(current, planner.plan(current.name, current.survey(), current.wishes))
    if isinstance(verdict, Refusal):
        current.refusal = verdict
    else:
        current.plan = verdict
    current.warnings += handover.warnings(current.name, current.survey(), current.intent.settings)
    current.remember()


def _agree(run: Run, last: HostRun) -> None:
    """Let the last host that is read answer for what is wrong with the rollout as a whole."""
    try:
        refuse_unknown(rules(run).canary, _inventory())
    except RackhandError as error:
        last.problems.append(Problem.of(error))
        return
    if run.purpose == "deploy":
        last.problems += _unrouted(_serving(run), [each for each in run.hosts.values() if each.front])


def rules(run: Run) -> Policy:
    """Return the rules of the rollout, in which all hosts that serve must agree."""
    return agreed({name: each.intent.settings for name, each in _serving(run).items()})


def _serving(run: Run) -> Mapping[str, HostRun]:
    return {name: each for name, each in run.hosts.items() if each.wishes and each.role == GPU}


def _unrouted(serving: Mapping[str, HostRun], fronts: Sequence[HostRun]) -> Iterator[Problem]:
    """Yield what keeps routers from their servers, or lets anybody in."""
    routers = [each.name for each in _inventory() if ROUTERS in each.groups]
    found = (checks.hidden(name, each.intent.settings.serve_host, routers) for name, each in serving.items())
    yield from (problem for problem in found if problem)
    for each in fronts:
        if each.front is not None:
            yield from checks.keys(each.name, each.front, {name: one.intent.api_key for name, one in serving.items()})


def _inventory() -> tuple[Member, ...]:
    real: State = ctx_state.get()  # type: ignore[no-untyped-call]
    return tuple(Member(name=each.name, groups=tuple(each.groups)) for each in real.inventory)


def _announce(current: HostRun) -> None:
    for problem in (*current.problems, *(current.refusal.reasons if current.refusal else ())):
        logger.error(f"    {click.style('refused', 'red')} {line(problem)}")


def _stop_when_refused(run: Run) -> None:
    """Nothing changes anywhere until every host has a plan, but for those that the others need not wait for."""
    if found := preflight.hindrance(run.hosts.values()):
        raise RefusedError(f"nothing was changed on any host: {found}")


def make_true(step: Step, title: str, role: str = GPU) -> None:
    """Queue one step under a title, for hosts of a role; it brings deadlines of its own.

    It stands in every host's list: pyinfra only keeps to an order that hosts have in common.
    """
    converge(step=step, title=title, role=role, name=title, _timeout=A_DAY_S)


@operation()
def converge(step: Step, title: str, role: str) -> Generator[FunctionCommand, None, None]:
    """
    Look whether ``step`` has anything to do on this host and do it.

    + step: function of a HostRun that returns a Change, or None when nothing is to be done
    + title: what the step is called in the report
    + role: hosts without it have nothing to do
    """
    run = current_run()
    current = run.hosts[host.name]
    if not current.plays(role):
        host.noop(title)
        return
    live = state.current_stage == StateStage.Execute
    run.executing = run.executing or live
    current.live = live
    begun = time.monotonic()
    try:
        change = decide(step, current)
    except Exception as error:
        yield FunctionCommand(_fail, (current, title, error), {})
        return
    if change is None:
        if live:
            current.steps.append(done(title, None, begun))
        host.noop(title)
        return
    yield FunctionCommand(_apply, (current, title, change, begun), {})


def _apply(state: State, host: Host, current: HostRun, title: str, change: Change, begun: float) -> bool:
    host.log(f"{title}: {change.summary}")
    failure = carry_out(current, title, change, begun)
    return True if failure is None else _fail(state, host, current, title, failure)


def _fail(state: State, host: Host, current: HostRun, title: str, error: Exception) -> bool:
    blame(current, title, error)
    if current_run().executing:
        give_back(current)
    return False
