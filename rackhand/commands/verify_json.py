"""The health of a fleet's GPUs, for programs; docs/reference/verify.md lists the fields."""

from collections.abc import Sequence
from typing import Any

from rackhand.commands.verify_words import sentence
from rackhand.health.host import UNHEALTHY, HostHealth
from rackhand.health.judge import inventory
from rackhand.health.seen import Seen
from rackhand.report_json import problem_json

SCHEMA = "rackhand.verify/1"


def to_json(hosts: Sequence[HostHealth]) -> dict[str, Any]:
    """Return everything that was seen and judged."""
    good = bool(hosts) and not any(host.problem or host.status == UNHEALTHY for host in hosts)
    return {"schema": SCHEMA, "good": good, "verdict": sentence(hosts), "hosts": [_host(host) for host in hosts]}


def _host(host: HostHealth) -> dict[str, Any]:
    return {
        "name": host.name,
        "status": host.status,
        "findings": [problem_json(each) for each in host.findings],
        "problems": [problem_json(host.problem)] if host.problem else [],
        **(_seen(host.seen) if host.seen else {name: None for name in ("driver", "cuda", "cards", "gpus", "uptime_s")}),
    }


def _seen(seen: Seen) -> dict[str, Any]:
    driver = {"module": seen.driver.loaded, "library": seen.driver.library, "nvml": seen.nvml.state}
    return {
        "driver": {**driver, "fabricmanager": dict(sorted(seen.fabric_packages.items()))},
        "cuda": seen.cuda.model_dump(),
        "cards": inventory(seen).describe(),
        "gpus": [gpu.model_dump() for gpu in seen.nvml.gpus],
        "uptime_s": seen.host.uptime_s,
    }
