"""The switch: the host itself drains, stops, starts and gates what must change; this machine orders, watches, confirms.

What may not go on (a driver is to be changed) is held first: drained and stopped, until the switch brings it back.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rackhand import truth
from rackhand.aftermath import driver_s, settle
from rackhand.catalog import platforms
from rackhand.catalog.failures import failures
from rackhand.driver import activation
from rackhand.operations import Change, current_run
from rackhand.order import SETTLED, Order
from rackhand.outcome import TurnEvent
from rackhand.render import ROOT, STOP_MARGIN_S, USER
from rackhand.run import HostRun
from rackhand.seen import inventory
from rackhand.survey import UnitFacts
from tasks import measure

QUIET = ("inactive", "failed")
# What a turn takes beyond its drains, stops, starts and questions, in seconds.
SLACK_S = 300


def over(host: HostRun) -> Change | None:
    """Let the host go over to its target release, unless everything of it runs already and nothing else does."""
    if host.target is None:
        return None
    reasons = [*_switched(host), *_started(host), *_ended(host)]
    reasons += ["bring back what was stopped for the driver"] if host.order and not reasons else []
    if not reasons:
        return None
    lost = "".join(f"; {words}" for words in truth.losses(host.survey().state, host.planned.instances))
    return Change(summary=", ".join(reasons) + lost, apply=lambda: _apply(host))


def hold(host: HostRun, seconds: int) -> None:
    """Have everything that serves drained and stopped for at most `seconds`, after which the host brings it back.

    Does nothing where nothing serves. Raises RackhandError when the host does not stop its servers; they serve then.
    """
    if host.order or not any(unit.active not in QUIET for unit in host.survey().state.instances):
        return
    settings = host.intent.settings
    limit_s = settings.drain_timeout_s + _stop_s(host) + SLACK_S
    order = _open(host, {**_order(host), "kind": "hold", "purpose": "driver", "to": "", "hold_s": seconds})
    with host.waiting("servers to be drained and stopped", limit_s, detail=order.words):
        result = order.follow(lambda phase: phase == "held", limit_s)
    host.changed()
    if result is not None:
        settle(host, result)


def _switched(host: HostRun) -> Iterator[str]:
    """Yield what is to be done about the release as a whole."""
    state = host.survey().state
    if state.current != host.wanted.id:
        way = f"from release {state.current} to" if state.current else "to release"
        yield f"switch {way} {host.wanted.id}"
    elif _edited(host):
        yield f"restore the unit file of release {host.wanted.id}"


def _edited(host: HostRun) -> list[str]:
    """Name the instances whose unit is not that of the release."""
    state, names = host.survey().state, [each.name for each in host.wanted.instances]
    if state.unit_sha256 != host.wanted.unit_sha256:
        return names
    own = host.release.drop_ins if host.release else state.drop_ins
    return [name for name in {**own, **state.drop_ins} if own.get(name) != state.drop_ins.get(name)]


def _started(host: HostRun) -> Iterator[str]:
    """Yield which instances have to be started and why, and which would not start at boot."""
    units = {unit.name: unit for unit in host.survey().state.instances}
    for instance in host.wanted.instances:
        unit = units.get(instance.name)
        if reason := _reason(unit, instance.config):
            yield f"start {instance.name} ({reason})"
        elif unit is not None and not unit.enabled:
            yield f"enable {instance.name} (it would not start at boot)"


def _reason(unit: UnitFacts | None, config: str) -> str:
    """Say why an instance has to be started; empty when it runs as it should.

    The answer comes from the running process, so a restart that an interrupted run still owes is made up for.
    """
    if unit is None:
        return "it does not run"
    if unit.active != "active":
        return f"it is {unit.active}"
    if unit.running_config != config:
        return "its configuration changed"
    return "its files had been changed by hand" if unit.owed else ""


def _ended(host: HostRun) -> Iterator[str]:
    """Yield which instances are not wanted any more."""
    wanted = {instance.name for instance in host.wanted.instances}
    for unit in host.survey().state.instances:
        if unit.name not in wanted and (unit.enabled or unit.active not in QUIET):
            yield f"stop {unit.name}"


def _order(host: HostRun) -> dict[str, Any]:
    """Return what every order of this host says."""
    settings, seen = host.intent.settings, host.survey().state
    owed = [unit.name for unit in seen.instances if unit.owed]
    again = _edited(host) if host.target and seen.current == host.target.id else []
    limit_s = host.target.start_timeout_s if host.target else host.planned.start_timeout_s
    return {
        "schema": "rackhand.order/1",
        "purpose": current_run().purpose,
        "start": sorted({*owed, *again}),
        "at_once": settings.rollout_instances_at_once,
        "confirm_s": settings.rollout_confirm_s,
        "hold_s": 0,
        "drain": {"timeout_s": settings.drain_timeout_s, "on_timeout": settings.drain_on_timeout},
        "gate": {"request_timeout_s": settings.gate_request_timeout_s, "start_timeout_s": limit_s},
        "stop_timeout_s": _stop_s(host),
        "driver": _driver(host),
        "fatal": [failure.pattern for failure in failures() if failure.fatal],
        "user": USER,
    }


def _driver(host: HostRun) -> dict[str, Any]:
    """Return what the host needs to know to put its driver back by itself."""
    settings, modules = host.intent.settings, platforms.modules(inventory(host.survey()).platform)
    return {
        "timeout_s": settings.driver_install_timeout_s,
        "reboot": settings.driver_reboot_allowed,
        "reboot_s": settings.driver_reboot_timeout_s,
        "services": list(activation.services()),
        "modules": list(modules),
    }


def _stop_s(host: HostRun) -> int:
    return host.intent.settings.serve_shutdown_timeout_s + STOP_MARGIN_S


def _open(host: HostRun, order: Mapping[str, Any]) -> Order:
    """Hand an order over; until its result is known it counts as open, also where the answer was lost."""

    def tell(event: TurnEvent) -> None:
        host.events.append(event)
        host.board.phase(host.name, event.phase, event.instance, event.detail)

    reboot_s = host.intent.settings.driver_reboot_timeout_s
    host.order = host.order or Order(host.session, ROOT, host.run, tell, host.since, reboot_s)
    host.order.begin(order)
    return host.order


def _apply(host: HostRun) -> None:
    release = host.wanted.id
    limit_s = _limit_s(host)
    order = _open(host, {**_order(host), "kind": "switch", "to": release})
    with host.waiting(f"release {release} to serve", limit_s, detail=order.words):
        result = order.follow(lambda phase: phase in SETTLED, limit_s) or order.confirm()
    settle(host, result)
    measure.take(host, result["gate"])


def _limit_s(host: HostRun) -> int:
    """Return how long a turn may take at most, the way back included; the host has its own, closer limits."""
    settings, count = host.intent.settings, len(host.wanted.instances) + len(host.survey().state.instances)
    one_s = settings.drain_timeout_s + _stop_s(host) + settings.gate_request_timeout_s
    return 2 * count * (one_s + host.wanted.start_timeout_s) + settings.rollout_confirm_s + SLACK_S + driver_s(host)
