"""Freeze a run: what is known and what happened, per host, as the data that reports are made of."""

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from rackhand.differences import differences
from rackhand.errors import unreachable
from rackhand.outcome import HostOutcome, HostStatus, InstanceOutcome, Problem, RunOutcome, TurnOutcome, WaveOutcome
from rackhand.plan import Plan
from rackhand.rollout.conductor import Conductor, numbered
from rackhand.rollout.waves import Waves
from rackhand.run import GPU, HostRun
from rackhand.shelf import Shelved
from rackhand.undone import went_back


class Fleet(Protocol):
    """What is read of a run (rackhand.fleet_run.Run)."""

    id: str
    purpose: str
    owner: str
    started: datetime
    since: float
    hosts: dict[str, HostRun]
    unreachable: tuple[str, ...]
    executing: bool
    conductor: Conductor | None
    foreseen: Waves

    @property
    def dry(self) -> bool: ...


def of(run: Fleet) -> RunOutcome:
    """Freeze what happened until now."""
    finished = datetime.now(UTC)
    waves = run.conductor.waves if run.conductor else numbered(run.foreseen)
    blocked = any(host.refusal or host.problems for host in run.hosts.values())
    hosts = [_host(run, run.hosts[name], waves, blocked) for name in sorted(run.hosts)]
    hosts += [_unreachable(name) for name in run.unreachable]
    return RunOutcome(
        run=run.id,
        command=shlex.join(["pyinfra", *sys.argv[1:]]),
        dry=run.dry,
        started=run.started.isoformat(timespec="seconds"),
        finished=finished.isoformat(timespec="seconds"),
        seconds=round((finished - run.started).total_seconds(), 1),
        hosts=tuple(hosts),
        purpose=run.purpose,
        waves=waves,
        stopped=run.conductor.stopped if run.conductor else "",
        owner=run.owner,
    )


def _host(run: Fleet, host: HostRun, waves: Sequence[WaveOutcome], blocked: bool) -> HostOutcome:
    plan, settings = host.plan, host.wishes.settings if host.wishes and host.role == GPU else None
    status = _status(run, host, blocked)
    serves = _serves(host, status)
    return HostOutcome(
        name=host.name,
        status=status,
        gpus=plan.cards if plan else (host.refusal.cards if host.refusal else ""),
        driver=_driver(host),
        vllm=serves.engine_version if serves else (settings.engine_version if settings else ""),
        model=serves.served_name if serves else (settings.model_name if settings else ""),
        release=serves.id if serves else "",
        plan=plan.words if plan else (),
        instances=_instances(host, serves),
        steps=tuple(host.steps),
        problems=(*host.problems, *(host.refusal.reasons if host.refusal else ())),
        warnings=tuple(host.warnings),
        seconds=round((host.ended or time.monotonic()) - host.begun, 1),
        ssh_commands=host.session.commands,
        role=host.role,
        turn=_turn(host, waves),
        differences=differences(host.before, host.target),
        findings=host.findings or (),
    )


def _status(run: Fleet, host: HostRun, blocked: bool) -> HostStatus:
    if host.refusal or any(problem.code == "settings" for problem in host.problems):
        return HostStatus.REFUSED
    if host.barred:
        return HostStatus.NOT_RUN
    if host.problems:
        return HostStatus.ROLLED_BACK if host.went_back else HostStatus.FAILED
    if not run.executing:
        return HostStatus.NOT_RUN if blocked or not host.ready else HostStatus.PLANNED
    if not host.finished:
        return HostStatus.INTERRUPTED
    return HostStatus.HEALTHY if any(step.changed for step in host.steps) else HostStatus.UNCHANGED


def _driver(host: HostRun) -> str:
    """Return the driver that the host has now, as far as anybody asked since it changed, or else is to have."""
    back = went_back(host.result or {})
    if back is not None:
        return back.to if back.restored else back.left
    return (host.seen.nvml.driver if host.seen else "") or (host.plan.driver.version if host.plan else "")


def _serves(host: HostRun, status: HostStatus) -> Shelved | None:
    """Return the release that serves now; of a host that is only planned, the one that it would serve."""
    known = {each.id: each for each in (host.before, host.target) if each}
    if host.serving is not None:
        return known.get(host.serving)
    return host.target if status.good else host.before


def _instances(host: HostRun, serves: Shelved | None) -> tuple[InstanceOutcome, ...]:
    """Return the instances of what serves now, or of what was planned where nothing does."""
    if serves is None and host.plan:
        return tuple(host.gated.get(item.name) or _ungated(host.plan, item.name) for item in host.plan.instances)
    blank = (
        [InstanceOutcome(name=each.name, port=each.port, gpus=each.gpus) for each in serves.instances] if serves else []
    )
    return tuple(host.gated.get(each.name, each) for each in blank)


def _ungated(plan: Plan, name: str) -> InstanceOutcome:
    instance = plan.instance(name)
    return InstanceOutcome(name=name, port=instance.port, gpus=plan.uuids(instance))


def _turn(host: HostRun, waves: Sequence[WaveOutcome]) -> TurnOutcome | None:
    """Put together what is known of the host's turn; None where it had none."""
    wave = next((each.number for each in waves if host.name in each.hosts), 0)
    if not wave or host.turn_began_s is None:
        return None
    result = host.result or {}
    return TurnOutcome(
        wave=wave,
        began_s=host.turn_began_s,
        ended_s=host.verdict.ended_s if host.verdict else None,
        before=host.before.id if host.before else "",
        after=str(result.get("release") or ""),
        out_s=result.get("out_s"),
        start_s=result.get("start_s"),
        back_s=result.get("back_s"),
        cut_off=_cut_off(result),
        driver=went_back(result),
        events=tuple(host.events),
    )


def _cut_off(result: Mapping[str, object]) -> int | None:
    count = result.get("cut_off")
    return count if isinstance(count, int) else None


def _unreachable(name: str) -> HostOutcome:
    return HostOutcome(name=name, status=HostStatus.UNREACHABLE, problems=(Problem.of(unreachable(name)),))
