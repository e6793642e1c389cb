"""Why a host's turn did not end with the wished release, and what serves instead, in an operator's words. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rackhand import rejection
from rackhand.errors import RackhandError
from rackhand.outcome import DriverBack

NEXT_STEPS = {
    "drain-timeout": 'raise drain_timeout_s, or set drain_on_timeout = "proceed" to cut off what still runs',
    "controller-silent": "see what keeps this machine from the host, then run again",
    "not-confirmed": "see what keeps this machine from the host, then run again",
    "gpu-memory-held": "see on the host who holds it (nvidia-smi); end that process, or run again when it is gone",
    "interrupted": "run again",
    "disk-full": "free space on the host, then run again",
}
OTHERWISE = "see journalctl -u rackhand-switch on the host; then run again"


def errors(host: str, result: Mapping[str, Any], ports: Mapping[str, int], limit_s: int) -> tuple[RackhandError, ...]:
    """Return an error for each instance that did not pass, or the one that ended the turn; each says what serves now.

    `limit_s` is how long an engine may take to start.
    """
    found = [*_stays(host, result), *(list(_rejected(host, result, ports, limit_s)) or [_general(host, result)])]
    return tuple(replace(error, next_step=f"{error.next_step}; {serves(result)}") for error in found)


def serves(result: Mapping[str, Any]) -> str:
    """Say what became of the host."""
    driver = went_back(result)
    return f"{driver.words}; {_serves(result)}" if driver and driver.restored else _serves(result)


def went_back(result: Mapping[str, Any]) -> DriverBack | None:
    """Return what became of a driver that had been changed in the turn; None where none had been."""
    return DriverBack(**result["driver"]) if result.get("driver") else None


def _serves(result: Mapping[str, Any]) -> str:
    release, verdict = result["release"], result["verdict"]
    if verdict == "restored":
        return f"release {release} was brought back and answered five tokens"
    if verdict == "unchanged":
        return f"release {release} still serves, undisturbed" if release else "nothing was disturbed"
    if verdict == "lost":
        gone = release or result["before"]
        return f"release {gone} did not come back either; systemd goes on trying, routers are kept away from it"
    return "there is no release to go back to: until the next run its units are stopped and disabled"


def _stays(host: str, result: Mapping[str, Any]) -> Iterator[RackhandError]:
    """Explain why a driver that had to go back did not."""
    driver = went_back(result)
    if driver and not driver.restored:
        step = "see journalctl -u rackhand-driver on the host, then deploy the driver that is wished"
        yield RackhandError("driver-not-restored", driver.words, host, step)


def _rejected(host: str, result: Mapping[str, Any], ports: Mapping[str, int], limit_s: int) -> Iterator[RackhandError]:
    """Explain each instance of which the host quotes more than a code."""
    for item in result.get("failed_gate") or ():
        if "failure" in item:
            yield rejection.rejected(host, item, ports.get(item["name"], 0))
        elif item["failed"]:
            yield rejection.died(host, item)
        else:
            yield rejection.hopeless(host, item) or rejection.late(host, item, limit_s)


def _general(host: str, result: Mapping[str, Any]) -> RackhandError:
    code, instance = result["code"] or "turn-failed", result.get("instance") or ""
    where = f"{host} vllm@{instance}" if instance else host
    evidence = tuple(result.get("journal") or ())[-rejection.LAST_LINES :]
    what = result["what"] or "the host's turn did not succeed"
    return RackhandError(code, what, where, NEXT_STEPS.get(code, OTHERWISE), evidence)
