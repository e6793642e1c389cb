"""The services: every instance runs with the configuration that is wanted, and nothing else of ours runs."""

import time

from rackhand.operations import Change
from rackhand.render import ROOT, USER
from rackhand.run import HostRun
from tasks import gate


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
        host.call("units.stop", 900, names=extra)
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
    stale = [
        name
        for name, config in release.configs.items()
        if name not in units
        or units[name].running_config != config
        or units[name].active != "active"
        or not units[name].enabled
    ]
    if not stale:
        return None
    return Change(summary=f"start {', '.join(stale)}", apply=lambda: _start(host, stale))


def _start(host: HostRun, names: list[str]) -> None:
    begun = time.monotonic()
    since = host.call("units.start", 900, root=ROOT, names=names, venv=host.planned.venv, user=USER)
    try:
        gate.await_ready(host, names, since)
        gate.pass_all(host, names, ready_s=round(time.monotonic() - begun, 1))
    except Exception:
        host.call("units.stop", 900, names=names)
        host.note("gate", verdict="failed", instances=names)
        raise
    host.note("gate", verdict="passed", instances=names, release=host.release.id if host.release else "")
