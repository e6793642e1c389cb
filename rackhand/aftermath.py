"""What came of an order, written into the host's part of the run: what serves now, its gates, and why not the other."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rackhand import undone
from rackhand.errors import RackhandError
from rackhand.outcome import InstanceOutcome, Problem
from rackhand.run import HostRun
from rackhand.shelf import Shelved

# For how long the watch over a host that goes back may last, beyond what its engines need, in seconds.
BACK_S = 900
UNKNOWN = "turn-unknown"


def settle(host: HostRun, result: Mapping[str, Any]) -> None:
    """Take over what the host says of its turn that is over.

    Raises RackhandError when the wished release was not accepted, after putting all errors but one into the report.
    """
    host.order, host.result, host.serving = None, result, str(result["release"])
    host.changed()
    known = {each.id: each for each in (host.before, host.target) if each}
    _gates(host, host.target, result["failed_gate"])
    _gates(host, known.get(host.serving), result["gate"])
    if result["verdict"] == "accepted":
        return
    limit_s = host.target.start_timeout_s if host.target else 0
    *others, last = undone.errors(host.name, result, _ports(host), limit_s)
    host.problems += [Problem.of(error) for error in others]
    raise last


def driver_s(host: HostRun) -> int:
    """Return how long the way back may take for the driver beside its release, in seconds."""
    settings = host.intent.settings
    return settings.driver_install_timeout_s + settings.driver_reboot_timeout_s if host.driver_changed else 0


def undo(host: HostRun, problem: Problem) -> None:
    """Have the host take back an order that is still open, and wait until what served before serves again."""
    order, limit_s = host.order, BACK_S + (host.before.start_timeout_s if host.before else 0) + driver_s(host)
    if order is None:
        return
    try:
        order.abort(problem.code, problem.what)
        with host.waiting("the release before to serve again", limit_s, detail=order.words):
            result = order.follow(lambda phase: False, limit_s)
    except RackhandError as error:
        if error.code != UNKNOWN:
            raise
        host.order = None  # it never arrived, so there is nothing to take back
        return
    # What failed is in the report already; this adds what became of the host.
    with contextlib.suppress(RackhandError):
        settle(host, {**(result or {}), "failed_gate": ()})
    host.problems = [replace(each, next_step=_after(each, host)) if each == problem else each for each in host.problems]


def _after(problem: Problem, host: HostRun) -> str:
    return f"{problem.next_step}; {undone.serves(host.result)}" if host.result else problem.next_step


def _gates(host: HostRun, release: Shelved | None, seen: Sequence[Mapping[str, Any]]) -> None:
    """Put what the gate said into the report, by instance; one that never got so far did not pass."""
    places = {each.name: each for each in release.instances} if release else {}
    for item in seen:
        if place := places.get(item["name"]):
            host.gated[place.name] = InstanceOutcome(
                name=place.name,
                port=place.port,
                gpus=place.gpus,
                gate="failed" if item.get("failure", "not ready") else "passed",
                version=str(item.get("version") or ""),
                text=str(item.get("text") or ""),
                ready_s=item.get("start_s"),
            )


def _ports(host: HostRun) -> dict[str, int]:
    return {each.name: each.port for release in (host.before, host.target) if release for each in release.instances}
