"""The services: every instance runs with the configuration that is wanted, and nothing else of ours runs."""

from collections.abc import Sequence
from dataclasses import replace

from rackhand.errors import RackhandError
from rackhand.operations import Change
from rackhand.plan import Instance
from rackhand.render import ROOT, USER
from rackhand.run import HostRun
from rackhand.survey import UnitFacts
from tasks import gate, measure

STOP_TIMEOUT_S = 900


def retire(host: HostRun) -> Change | None:
    """Stop instances that the plan no longer has."""
    wanted = {instance.name for instance in host.planned.instances}
    extra = [
        unit.name
        for unit in host.survey().state.instances
        if unit.name not in wanted and (unit.enabled or unit.active not in ("inactive", "failed"))
    ]
    if not extra:
        return None

    def apply() -> None:
        host.call("units.stop", STOP_TIMEOUT_S, names=extra)
        host.note("retired", instances=extra)

    return Change(summary=f"stop {', '.join(extra)}", apply=apply)


def running(host: HostRun) -> Change | None:
    """Start or restart the instances whose process was started with something else than is wanted now.

    The answer comes from the running process, so a restart that an interrupted run still owes is made up for.
    """
    release = host.release
    if release is None:
        return None
    units = {unit.name: unit for unit in host.survey().state.instances}
    reasons = {name: _reason(units.get(name), config) for name, config in release.configs.items()}
    stale = {name: reason for name, reason in reasons.items() if reason}
    sleepy = [name for name in reasons if name not in stale and not units[name].enabled]
    if not stale and not sleepy:
        return None
    words = [f"start {name} ({reason})" for name, reason in stale.items()]
    words += [f"enable {name} (it would not start at boot)" for name in sleepy]
    return Change(summary=", ".join(words), apply=lambda: _apply(host, list(stale), sleepy))


def _reason(unit: UnitFacts | None, config: str) -> str:
    """Say why an instance has to be started; empty when it runs as it should."""
    if unit is None:
        return "it does not run"
    if unit.active != "active":
        return f"it is {unit.active}"
    if unit.running_config != config:
        return "its configuration changed"
    return "its files had been changed by hand" if unit.owed else ""


def _apply(host: HostRun, stale: list[str], sleepy: list[str]) -> None:
    if sleepy:
        host.call("units.enable", names=sleepy)
    if stale:
        _start(host, stale)


def _start(host: HostRun, names: list[str]) -> None:
    """Start instances and let only those stay that pass the gate; those that share a GPU one after the other."""
    errors: gate.Errors = {}
    for turn in _turns(host.planned.instances, names):
        errors |= _start_together(host, turn)
    gate.blame(host, {name: _stopped(error) for name, error in errors.items()})


def _turns(instances: Sequence[Instance], names: list[str]) -> list[list[str]]:
    """Divide the instances to start into groups, each to be started when the group before it is ready."""
    before = {instance.name: instance.starts_after for instance in instances}
    turns, left = [], names
    while left:
        turns.append([name for name in left if before[name] not in left])
        left = [name for name in left if name not in turns[-1]]
    return turns


def _start_together(host: HostRun, names: list[str]) -> gate.Errors:
    start = host.call("units.start", root=ROOT, names=names, venv=host.planned.venv, user=USER)
    errors = gate.prove(host, names, gate.Start(since=start["since"], before=start["before"]))
    release = host.release.id if host.release else ""
    passed = [name for name in names if name not in errors]
    if passed:
        memory = measure.ledger(host, passed)
        host.note("gate", verdict="passed", instances=passed, release=release, memory=memory)
    if errors:
        host.call("units.stop", STOP_TIMEOUT_S, names=list(errors))
        host.note("gate", verdict="failed", instances=list(errors), release=release)
    return errors


def _stopped(error: RackhandError) -> RackhandError:
    return replace(error, next_step=f"{error.next_step}; until the next run the unit is stopped and disabled")
