"""The gate for servers that this run did not start: they are believed only after five tokens came out of them, too."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rackhand import rejection
from rackhand.errors import RackhandError
from rackhand.journal import startup_phase
from rackhand.operations import Change
from rackhand.outcome import InstanceOutcome, Problem
from rackhand.render import ROOT
from rackhand.run import HostRun
from tasks import measure

POLL_S = 5
Errors = dict[str, RackhandError]


def passed(host: HostRun) -> Change | None:
    """Check every instance that was not checked in this run, and wait for those that are still starting."""
    if not host.live:
        return None
    pending = [instance.name for instance in host.planned.instances if instance.name not in host.gated]
    if pending:
        restarts = {item["name"]: item["unit"]["restarts"] for item in _look(host, dict.fromkeys(pending), 0)}
        errors = _prove(host, pending, restarts)
        _blame(host, {name: _left_running(name, error) for name, error in errors.items()})
    return None


def _blame(host: HostRun, errors: Errors) -> None:
    """Raise the last error after putting the others into the report; there may be none."""
    for count, error in enumerate(errors.values(), start=1):
        if count == len(errors):
            raise error
        host.problems.append(Problem.of(error))


def _prove(host: HostRun, names: list[str], restarts: Mapping[str, int]) -> Errors:
    """Wait for instances and put those that answer through the gate; return what is wrong, by instance."""
    errors = _await(host, names, restarts)
    answering = [name for name in names if name not in errors]
    errors |= _check(host, answering) if answering else {}
    for name in errors.keys() - host.gated.keys():
        host.gated[name] = _outcome(host, {"name": name, "failure": "not ready", "version": "", "text": ""})
    return errors


def _left_running(name: str, error: RackhandError) -> RackhandError:
    """Say what became of a unit that had passed before: nothing, because it may still serve somebody."""
    again = f"the unit is left as it is (systemctl restart vllm@{name} on the host restarts it)"
    return replace(error, next_step=f"{error.next_step}; {again}")


def _await(host: HostRun, names: list[str], restarts: Mapping[str, int]) -> Errors:
    """Wait until all answer /health; a dead engine or a fatal journal line ends the wait for that instance at once."""
    limit = host.planned.start_timeout_s
    errors: Errors = {}
    waiting, phases = list(names), {"": ""}
    deadline = time.monotonic() + limit
    with host.waiting(f"vLLM to answer ({', '.join(names)})", limit, detail=lambda: "; ".join(phases.values())):
        while waiting:
            asked = {name: restarts[name] for name in waiting}
            seen = [item for item in _look(host, asked, POLL_S) if not item["ready"]]
            phases = {item["name"]: f"{item['name']} {startup_phase(item['journal']) or 'starting'}" for item in seen}
            over = time.monotonic() > deadline
            errors |= {item["name"]: error for item in seen if (error := _error(host, item, limit, over))}
            waiting = [item["name"] for item in seen if item["name"] not in errors]
    return errors


def _error(host: HostRun, item: Mapping[str, Any], limit_s: int, over: bool) -> RackhandError | None:
    if item["failed"]:
        return rejection.died(host.name, item)
    return rejection.hopeless(host.name, item) or (rejection.late(host.name, item, limit_s) if over else None)


def _look(host: HostRun, restarts: Mapping[str, int | None], wait_s: float) -> list[dict[str, Any]]:
    """Ask for the state of instances; the answer comes when all are ready, one has failed, or `wait_s` is over.

    `restarts` is how often systemd had restarted an instance already; None forgives any number.
    """
    instances = [
        {**_instance(host, name), "since": 0.0, "before": "", "restarts": allowed} for name, allowed in restarts.items()
    ]
    answer: list[dict[str, Any]] = host.call("gate.wait", 120, instances=instances, wait_s=wait_s)
    return answer


def _check(host: HostRun, names: list[str]) -> Errors:
    """Put instances through the gate and remember what they answered."""
    timeout_s = host.intent.settings.gate_request_timeout_s
    instances = [{**_instance(host, name), "report": measure.wanted(host, name)} for name in names]
    with host.waiting(f"five tokens from {', '.join(names)}", timeout_s):
        results = host.call("admission.check", timeout_s + 120, root=ROOT, instances=instances, timeout_s=timeout_s)
    errors = {}
    for result in results:
        host.gated[result["name"]] = _outcome(host, result)
        if result["failure"]:
            errors[result["name"]] = rejection.rejected(host.name, result, host.planned.instance(result["name"]).port)
    _tell_readmitted(host, [result["name"] for result in results if result.get("readmitted")])
    measure.take(host, [result for result in results if not result["failure"]])
    return errors


def _tell_readmitted(host: HostRun, names: list[str]) -> None:
    """Say which servers somebody had left drained: they serve again, and it was not this run that drained them."""
    if names:
        host.note("readmitted", instances=names)
        what = f"{', '.join(names)} had been left drained, passed the gate, and gets requests again"
        step = "nothing, unless somebody drained it on purpose: then drain it again, or stop it"
        host.warnings.append(Problem(code="readmitted", what=what, where=host.name, next_step=step))


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


def _outcome(host: HostRun, result: Mapping[str, Any]) -> InstanceOutcome:
    instance = host.planned.instance(result["name"])
    return InstanceOutcome(
        name=instance.name,
        port=instance.port,
        gpus=host.planned.uuids(instance),
        gate="failed" if result["failure"] else "passed",
        version=result["version"],
        text=result["text"],
    )
