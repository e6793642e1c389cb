"""The gate: an instance is believed only after five tokens came out of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rackhand import rejection
from rackhand.errors import RackhandError
from rackhand.journal import startup_phase
from rackhand.operations import Change
from rackhand.outcome import InstanceOutcome, Problem
from rackhand.run import HostRun
from tasks import measure

POLL_S = 5
Errors = dict[str, RackhandError]


@dataclass(frozen=True, kw_only=True)
class Start:
    """What is known of a start: the host's clock before it (0: not by us), invocations that must be gone by instance.

    `restarts` holds how often systemd had restarted an instance already; None forgives any number.
    """

    since: float = 0.0
    before: Mapping[str, str] = field(default_factory=dict)
    restarts: Mapping[str, int | None] = field(default_factory=dict)


def passed(host: HostRun) -> Change | None:
    """Check every instance that was not checked in this run, and wait for those that are still starting."""
    if not host.live:
        return None
    pending = [instance.name for instance in host.planned.instances if instance.name not in host.gated]
    if pending:
        seen = _look(host, pending, Start(restarts=dict.fromkeys(pending)), 0)
        start = Start(restarts={item["name"]: item["unit"]["restarts"] for item in seen})
        errors = prove(host, pending, start)
        blame(host, {name: _left_running(name, error) for name, error in errors.items()})
    return None


def blame(host: HostRun, errors: Errors) -> None:
    """Raise the last error after putting the others into the report; there may be none."""
    for count, error in enumerate(errors.values(), start=1):
        if count == len(errors):
            raise error
        host.problems.append(Problem.of(error))


def prove(host: HostRun, names: list[str], start: Start) -> Errors:
    """Wait for instances and put those that answer through the gate; return what is wrong, by instance."""
    begun = time.monotonic()
    errors = _await(host, names, start)
    ready_s = round(time.monotonic() - begun, 1) if start.since else None
    answering = [name for name in names if name not in errors]
    errors |= _check(host, answering, ready_s) if answering else {}
    for name in errors.keys() - host.gated.keys():
        host.gated[name] = _outcome(host, {"name": name, "failure": "not ready", "version": "", "text": ""}, None)
    return errors


def _left_running(name: str, error: RackhandError) -> RackhandError:
    """Say what became of a unit that had passed before: nothing, because it may still serve somebody."""
    again = f"the unit is left as it is (systemctl restart vllm@{name} on the host restarts it)"
    return replace(error, next_step=f"{error.next_step}; {again}")


def _await(host: HostRun, names: list[str], start: Start) -> Errors:
    """Wait until all answer /health; a dead engine or a fatal journal line ends the wait for that instance at once."""
    limit = host.planned.start_timeout_s
    errors: Errors = {}
    waiting, phases = list(names), {"": ""}
    deadline = time.monotonic() + limit
    with host.waiting(f"vLLM to answer ({', '.join(names)})", limit, detail=lambda: "; ".join(phases.values())):
        while waiting:
            seen = [item for item in _look(host, waiting, start, POLL_S) if not item["ready"]]
            phases = {item["name"]: f"{item['name']} {_phase(item)}" for item in seen}
            if any(item["unit"]["active"] == "deactivating" for item in seen):
                deadline = time.monotonic() + limit  # the old process drains; systemd bounds that
            over = time.monotonic() > deadline
            errors |= {item["name"]: error for item in seen if (error := _error(host, item, limit, over))}
            waiting = [item["name"] for item in seen if item["name"] not in errors]
    return errors


def _phase(item: Mapping[str, Any]) -> str:
    stopping = item["unit"]["active"] == "deactivating"
    return "stopping its old process" if stopping else startup_phase(item["journal"]) or "starting"


def _error(host: HostRun, item: Mapping[str, Any], limit_s: int, over: bool) -> RackhandError | None:
    if item["failed"]:
        return rejection.died(host.name, item)
    return rejection.hopeless(host.name, item) or (rejection.late(host.name, item, limit_s) if over else None)


def _look(host: HostRun, names: list[str], start: Start, wait_s: float) -> list[dict[str, Any]]:
    """Ask for the state of instances; the answer comes when all are ready, one has failed, or `wait_s` is over."""
    instances = [
        {
            **_instance(host, name),
            "since": start.since,
            "before": start.before.get(name, ""),
            "restarts": start.restarts.get(name, 0),
        }
        for name in names
    ]
    answer: list[dict[str, Any]] = host.call("gate.wait", 120, instances=instances, wait_s=wait_s)
    return answer


def _check(host: HostRun, names: list[str], ready_s: float | None) -> Errors:
    """Put instances through the gate and remember what they answered."""
    timeout_s = host.intent.settings.gate_request_timeout_s
    started = ready_s is not None
    instances = [{**_instance(host, name), "report": measure.wanted(host, name, started)} for name in names]
    with host.waiting(f"five tokens from {', '.join(names)}", timeout_s):
        results = host.call("gate.check", timeout_s + 120, instances=instances, timeout_s=timeout_s)
    errors = {}
    for result in results:
        host.gated[result["name"]] = _outcome(host, result, ready_s)
        if result["failure"]:
            errors[result["name"]] = rejection.rejected(host.name, result, host.planned.instance(result["name"]).port)
    measure.take(host, [result for result in results if not result["failure"]], ready_s)
    return errors


def _instance(host: HostRun, name: str) -> dict[str, Any]:
    instance = host.planned.instance(name)
    settings, key = host.intent.settings, host.intent.api_key
    return {
        "name": name,
        "host": settings.serve_host,
        "port": instance.port,
        "model": settings.model_name,
        "version": settings.engine_version,
        "max_model_len": instance.max_model_len,
        "key": key.get_secret_value() if key else "",
    }


def _outcome(host: HostRun, result: Mapping[str, Any], ready_s: float | None) -> InstanceOutcome:
    instance = host.planned.instance(result["name"])
    return InstanceOutcome(
        name=instance.name,
        port=instance.port,
        gpus=host.planned.uuids(instance),
        gate="failed" if result["failure"] else "passed",
        version=result["version"],
        text=result["text"],
        ready_s=ready_s,
    )
