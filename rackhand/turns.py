"""The turns: everything that disturbs a host, done for all hosts in one pyinfra operation, wave by wave."""

import time
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from rackhand.aftermath import undo
from rackhand.fleet_run import Run
from rackhand.operations import A_DAY_S, GPU, ROUTERS, current_run, members, rules
from rackhand.outcome import Problem
from rackhand.renewal import give_back
from rackhand.replicas import beside, intent_of, result_of
from rackhand.rollout.conductor import Conductor
from rackhand.rollout.intent import Intent, Member, Result
from rackhand.rollout.waves import plan_waves
from rackhand.run import HostRun
from rackhand.steps import Change, Step, blame, carry_out, decide, done

TITLE = "Turns | one wave after the other"
Titled = tuple[Step, str]


def in_turns(*steps: Titled) -> None:
    """Queue what a host may do only in its turn; each step is (function, title), as for make_true.

    A host has a turn when one of the steps wants to change something; the steps of others run at once.
    """
    take_turns(steps=steps, name=TITLE, _timeout=A_DAY_S)


@operation()
def take_turns(steps: Sequence[Titled]) -> Generator[FunctionCommand, None, None]:
    """
    Wait for this host's turn and do what it has to do then.

    + steps: functions of a HostRun with their titles, in order
    """
    run, current = current_run(), current_run().hosts[host.name]
    if not current.plays(GPU):
        host.noop(TITLE)
        return
    if state.current_stage != StateStage.Execute:
        current.wants_turn = bool(_foreseen(steps, current))
        if run.looks:
            wanting = {name for name, each in run.hosts.items() if each.wants_turn}
            run.foreseen = plan_waves(wanting, _fleet(run), rules(run))
        if current.wants_turn:
            yield FunctionCommand(_end, (current,), {})
        return
    run.executing = current.live = True
    before = len(current.steps)
    try:
        current.verdict = _conductor(run, steps).attend(host.name)
        _bar(current)
    except Exception as error:
        blame(current, TITLE, error)
    if current.problems or any(step.changed for step in current.steps[before:]):
        yield FunctionCommand(_end, (current,), {})
        return
    host.noop(TITLE)


def _end(state: State, host: Host, current: HostRun) -> bool:
    """Tell pyinfra how it went; a host that failed gives its lease back, unless it is still in its turn."""
    if current.problems and not current.order:
        give_back(current)
    return not current.problems


def _bar(current: HostRun) -> None:
    """Say of a host that was not let begin that it is not to blame."""
    verdict = current.verdict
    if verdict is not None and not verdict.admitted and not current.problems:
        current.barred = verdict.reason
        what = f"it did not get its turn: {verdict.reason}"
        again = "correct what failed, then run again: the rollout goes on with the hosts that are left"
        current.problems.append(Problem(code="rollout-stopped", what=what, where=current.name, next_step=again))


def _conductor(run: Run, steps: Sequence[Titled]) -> Conductor:
    """Return the one conductor of this run."""
    if run.conductor is None:
        look, work = partial(_look, run, steps), partial(_work, run, steps)
        fleet, others = partial(_fleet, run), partial(_others, run)
        run.conductor = Conductor(rules(run), fleet, look, work, run.board, run.since, aside=others)
    return run.conductor


def _fleet(run: Run) -> tuple[Member, ...]:
    """Return the hosts that serve models and were not refused, which have turns, and routers that failed."""
    hosts = {each.name: run.hosts.get(each.name) for each in members(run)}
    out = {name for name, current in hosts.items() if current and (current.refusal or _aside(current))}
    return tuple(each for each in members(run) if each.name not in out)


def _others(run: Run) -> tuple[Intent, ...]:
    """Return what those have that take no part: who was refused may still serve, who failed is not counted on."""
    refused = [beside(each) for each in run.hosts.values() if each.refusal and each.role == GPU]
    lost = [each.name for each in members(run) if not each.present and ROUTERS not in each.groups]
    return (*refused, *(Intent(disturbs=False, has={_model(run, name): 1}) for name in lost))


def _model(run: Run, name: str) -> str:
    """Name the model of a host that failed or is out of reach: that of its release, or else the wished one."""
    current = run.hosts.get(name)
    if current and current.before:
        return current.before.served_name
    real: State = ctx_state.get()  # type: ignore[no-untyped-call]
    data: dict[str, Any] = real.inventory.get_host(name).data.dict()  # type: ignore[no-untyped-call]
    return str(data.get("model_name") or "")


def _aside(current: HostRun) -> bool:
    """Tell of a router that it may be left out of account; one that failed counts, for it may lead to nowhere."""
    return current.role != GPU and not current.problems


def _look(run: Run, steps: Sequence[Titled], name: str) -> Intent:
    current = run.hosts[name]
    current.live = False
    return intent_of(current, _foreseen(steps, current))


def _foreseen(steps: Sequence[Titled], current: HostRun) -> list[Change]:
    """Return what the steps would change, as far as one can tell before the first of them did."""
    return [change for step, _ in steps if (change := decide(step, current)) is not None]


def _work(run: Run, steps: Sequence[Titled], name: str) -> Result:
    """Do what there is to do on one host and tell how it ended; a turn that fails is undone before."""
    current = run.hosts[name]
    current.live, current.turn_began_s = True, round(time.monotonic() - run.since, 1)
    real: State = ctx_state.get()  # type: ignore[no-untyped-call]
    with ctx_host.use(real.inventory.get_host(name)):
        for step, title in steps:
            if run.terminated or not _perform(current, step, title):
                break
        if current.problems and current.order:
            _take_back(current)
    return result_of(current, interrupted=bool(run.terminated))


def _perform(current: HostRun, step: Step, title: str) -> bool:
    """Look and do, as for a step outside of turns; return whether the host may go on."""
    begun = time.monotonic()
    try:
        change = decide(step, current)
    except Exception as error:
        blame(current, title, error)
        return False
    if change is None:
        current.steps.append(done(title, None, begun))
        return True
    host.log(f"{title}: {change.summary}")
    failure = carry_out(current, title, change, begun)
    if failure is not None:
        blame(current, title, failure)
    return failure is None


def _take_back(current: HostRun) -> None:
    try:
        undo(current, current.problems[-1])
    except Exception as error:
        blame(current, TITLE, error)
