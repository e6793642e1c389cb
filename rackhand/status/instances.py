"""What state an instance is in, and what about it is not as it was deployed. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from rackhand import rejection
from rackhand.outcome import Problem
from rackhand.shelf import ShelvedInstance
from rackhand.status.seen import Deployed, InstanceSeen, Seen

# An engine that had to be started again within this time is news; later it is history.
RECENT_S = 86_400
ENDED = ("failed", "inactive", "deactivating")
AGAIN = "run the deploy again"


class State(StrEnum):
    """What an instance does; SERVING answered five tokens, UP was not asked for any, and routers may use both."""

    SERVING = "serving"
    UP = "up"
    DRAINED = "drained"
    STARTING = "starting"
    FAILING = "failing"
    DOWN = "down"
    STRAY = "stray"

    @property
    def serves(self) -> bool:
        return self in (State.SERVING, State.UP)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One instance: its state, the drifts, and what is worth knowing and is none."""

    seen: InstanceSeen
    planned: ShelvedInstance | None
    state: State
    drifts: tuple[Problem, ...]
    notes: tuple[Problem, ...] = ()

    @property
    def gate(self) -> str:
        """Return passed, failed or not asked."""
        if self.seen.gate is None:
            return "not asked"
        return "failed" if self.seen.gate.failure else "passed"


def stand(host: str, seen: Seen, item: InstanceSeen) -> Standing:
    """Judge one instance of a host."""
    planned = next((each for each in seen.release.instances if each.name == item.name), None) if seen.release else None
    if planned is None or seen.release is None:
        strays = (_stray(host, item),) if item.unit.enabled or item.unit.active not in ENDED else ()
        return Standing(seen=item, planned=None, state=State.STRAY, drifts=strays)
    state = _state(item, seen.release)
    found = [*_not_serving(host, seen, item, planned, state), *_unlike(host, item, planned)]
    again = [_restarted(host, item)] if item.healthy and item.unit.restarts else []
    recent = item.up_s is not None and item.up_s < RECENT_S
    drifts, notes = (*found, *(again if recent else ())), tuple(() if recent else again)
    return Standing(seen=item, planned=planned, state=state, drifts=drifts, notes=notes)


def _state(item: InstanceSeen, release: Deployed) -> State:
    unit = item.unit
    if unit.sub == "auto-restart" or unit.active in ENDED:
        return State.DOWN
    if not item.healthy:
        young = item.up_s is None or item.up_s < release.start_timeout_s
        return State.STARTING if young and not unit.restarts else State.DOWN
    if item.gate is not None and item.gate.failure:
        return State.FAILING
    if item.state == "drain":
        return State.DRAINED
    return State.UP if item.gate is None else State.SERVING


def _not_serving(
    host: str, seen: Seen, item: InstanceSeen, planned: ShelvedInstance, state: State
) -> Iterator[Problem]:
    where = f"{host} vllm@{item.name}"
    if state is State.DOWN:
        yield _down(host, item)
    elif state is State.STARTING:
        what = f"started {span(item.up_s or 0)} ago, it does not answer yet"
        yield Problem(code="engine-starting", what=what, where=where, next_step="look again in a minute")
    elif state is State.FAILING and item.gate is not None:
        yield Problem.of(rejection.rejected(host, item.gate.model_dump(), planned.port))
    elif state is State.DRAINED and seen.order is None:
        what = "routers are told to send it nothing, and no run is at work"
        yield Problem(code="left-drained", what=what, where=where, next_step=f"{AGAIN}: it is ready when it passed")


def _down(host: str, item: InstanceSeen) -> Problem:
    unit = item.unit
    if unit.active == "inactive" and unit.result == "success":
        step = f"{AGAIN}, or start it: systemctl enable --now vllm@{item.name}"
        return Problem(code="not-running", what="it was stopped", where=f"{host} vllm@{item.name}", next_step=step)
    ended = unit.ended or unit.result
    what = f"the engine is down, its unit is {unit.active}{f' ({ended})' if ended else ''}"
    if unit.restarts:
        what += f", restarted {times(unit.restarts)}"
    return Problem.of(rejection.down(host, item.model_dump(), what))


def _restarted(host: str, item: InstanceSeen) -> Problem:
    what = f"systemd restarted the engine {times(item.unit.restarts)}, {span(item.up_s or 0)} ago the last time"
    told = rejection.down(host, item.model_dump(), what)
    return Problem(
        code="engine-restarted" if told.code == "engine-died" else told.code,
        what=told.what,
        where=told.where,
        next_step=told.next_step,
        evidence=tuple(told.evidence[-1:]),
    )


def _stray(host: str, item: InstanceSeen) -> Problem:
    unit = item.unit
    what = f"it is {unit.active}{' and enabled' if unit.enabled else ''}, and the current release does not have it"
    return Problem(code="stray-instance", what=what, where=f"{host} vllm@{item.name}", next_step=f"{AGAIN}: it goes")


def _unlike(host: str, item: InstanceSeen, planned: ShelvedInstance) -> Iterator[Problem]:
    """Yield what about the unit and its process is not as it was deployed."""
    where = f"{host} vllm@{item.name}"
    runs = item.unit.running_config
    if item.unit.pid and (runs != planned.config or item.owed):
        why = (
            "its files had been changed by hand"
            if runs == planned.config
            else f"it runs with {runs or 'nothing of ours'}"
        )
        what = f"its process was not started with what is deployed ({planned.config}): {why}"
        yield Problem(code="restart-owed", what=what, where=where, next_step=f"{AGAIN}: it restarts this instance")
    if not item.unit.enabled:
        what, step = "it would not start at boot", f"{AGAIN}, or: systemctl enable vllm@{item.name}"
        yield Problem(code="not-enabled", what=what, where=where, next_step=step)
    if item.foreign:
        what = f"{', '.join(item.foreign)} changes its unit"
        step = "move what you need into the inventory, then remove the file and run systemctl daemon-reload"
        yield Problem(code="unit-overridden", what=what, where=where, next_step=step)
    if item.stale:
        what = "systemd has not read its unit file again since that changed"
        step = f"systemctl daemon-reload on the host; then {AGAIN}"
        yield Problem(code="unit-stale", what=what, where=where, next_step=step)


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def span(seconds: float) -> str:
    """Say a span of time in its largest unit: 40 s, 12 min, 3 h, 5 d."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
