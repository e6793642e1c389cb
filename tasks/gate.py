"""The gate: an instance is believed only after five tokens came out of it."""

import time
from typing import Any

from rackhand.errors import RackhandError
from rackhand.journal import decisive_line, startup_phase
from rackhand.operations import Change
from rackhand.outcome import InstanceOutcome
from rackhand.run import HostRun

POLL_S = 5
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def passed(host: HostRun) -> Change | None:
    """Check every instance that was not checked in this run; wait for those that are still starting."""
    if not host.live:
        return None
    pending = [instance.name for instance in host.planned.instances if instance.name not in host.gated]
    if not pending:
        return None
    starting = [item["name"] for item in _look(host, pending, 0, 0) if not item["ready"]]
    if starting:
        return Change(summary=f"wait for {', '.join(starting)}", apply=lambda: _wait(host, pending))
    pass_all(host, pending)
    return None


def _wait(host: HostRun, names: list[str]) -> None:
    await_ready(host, names, 0)
    pass_all(host, names)


def await_ready(host: HostRun, names: list[str], since: float) -> None:
    """Wait until all instances answer /health; a failed unit or a fatal journal line ends the wait at once."""
    limit = host.planned.start_timeout_s
    deadline = time.monotonic() + limit
    phase = {"text": ""}
    with host.waiting(f"vLLM to answer ({', '.join(names)})", limit, detail=lambda: phase["text"] or None):
        while True:
            seen = _look(host, names, since, POLL_S)
            waiting = [item for item in seen if not item["ready"]]
            if not waiting:
                return
            phase["text"] = "; ".join(
                f"{item['name']}: {startup_phase(item['journal']) or 'starting'}" for item in waiting
            )
            for item in waiting:
                _end_if_hopeless(host, item)
            if time.monotonic() > deadline:
                raise _failure(host, waiting[0], "gate-start-timeout", f"no answer on /health after {limit} s")


def _look(host: HostRun, names: list[str], since: float, wait_s: float) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = host.call(
        "gate.wait", 120, instances=[_instance(host, name) for name in names], since=since, wait_s=wait_s
    )
    return answer


def _end_if_hopeless(host: HostRun, item: dict[str, Any]) -> None:
    found = decisive_line(item["journal"])
    if item["failed"]:
        raise _failure(
            host, item, "engine-died", f"the engine ended at start ({item['unit']['result'] or item['unit']['active']})"
        )
    if found is not None and found.fatal:
        raise _failure(host, item, found.code, found.cause)


def pass_all(host: HostRun, names: list[str], ready_s: float | None = None) -> None:
    """Put instances through the gate and remember what they answered; raises RackhandError for the first that fails."""
    timeout_s = host.intent.settings.gate_request_timeout_s
    with host.waiting(f"five tokens from {', '.join(names)}", timeout_s * len(names)):
        results = host.call(
            "gate.check",
            (timeout_s + 60) * len(names),
            instances=[_instance(host, name) for name in names],
            timeout_s=timeout_s,
        )
    for result in results:
        host.gated[result["name"]] = _outcome(host, result, ready_s)
    for result in results:
        if result["failure"]:
            raise _failure(host, result, result["failure"], result["what"])


def _instance(host: HostRun, name: str) -> dict[str, Any]:
    instance = next(item for item in host.planned.instances if item.name == name)
    settings, key = host.intent.settings, host.intent.api_key
    return {
        "name": name,
        "host": EVERYWHERE.get(settings.serve_host, settings.serve_host),
        "port": instance.port,
        "model": settings.model_name,
        "version": settings.engine_version,
        "max_model_len": instance.max_model_len,
        "key": key.get_secret_value() if key else "",
    }


def _outcome(host: HostRun, result: dict[str, Any], ready_s: float | None) -> InstanceOutcome:
    instance = next(item for item in host.planned.instances if item.name == result["name"])
    return InstanceOutcome(
        name=instance.name,
        port=instance.port,
        gpus=host.planned.uuids(instance),
        gate="failed" if result["failure"] else "passed",
        version=result["version"],
        text=result["text"],
        ready_s=ready_s,
    )


def _failure(host: HostRun, item: dict[str, Any], code: str, what: str) -> RackhandError:
    """Say what failed on which instance, with the journal's decisive line and its remedy where one is known."""
    where = f"{host.name} vllm@{item['name']}"
    found = decisive_line(item.get("journal", []))
    if found is None:
        return RackhandError(
            code,
            what,
            where,
            f"read the journal on the host: journalctl -u vllm@{item['name']}",
            tuple(item.get("journal", [])[-5:]),
        )
    return RackhandError(
        code, f"{what}: {found.cause}" if found.cause not in what else what, where, found.remedy, (found.line,)
    )
