"""How a fleet stands, for programs; docs/reference/status.md lists the fields."""

from collections.abc import Sequence
from typing import Any

from rackhand.commands.status_words import sentence
from rackhand.report_json import problem_json
from rackhand.shelf import Shelved
from rackhand.status.hosts import GOOD, HostStanding, uuids
from rackhand.status.instances import Standing
from rackhand.status.seen import Seen

SCHEMA = "rackhand.status/1"


def to_json(hosts: Sequence[HostStanding]) -> dict[str, Any]:
    """Return everything that was seen and judged."""
    return {
        "schema": SCHEMA,
        "good": bool(hosts) and all(host.status == GOOD for host in hosts),
        "verdict": sentence(hosts),
        "hosts": [_host(host) for host in hosts],
    }


def _host(host: HostStanding) -> dict[str, Any]:
    seen = host.seen
    return {
        "name": host.name,
        "status": host.status,
        "role": "router" if host.router else "gpu",
        "haproxy": seen.haproxy.active if seen and seen.haproxy else None,
        "release": _release(seen) if seen else None,
        "driver": _driver(seen) if seen else None,
        "gpus": sorted(uuids(seen)) if seen else [],
        "uptime_s": seen.host.uptime_s if seen else None,
        "disk_free_mib": seen.resources.disk_free_mib if seen else None,
        "reboot": seen.reboot.model_dump() if seen else None,
        "instances": [_instance(each) for each in host.instances],
        "order": seen.order.model_dump() if seen and seen.order else None,
        "lease": seen.lease.model_dump() if seen and seen.lease else None,
        "last": seen.last.model_dump() if seen and seen.last else None,
        "drifts": [problem_json(drift) for drift in host.drifts],
        "notes": [problem_json(note) for note in host.notes],
        "problems": [problem_json(host.problem)] if host.problem else [],
    }


def _release(seen: Seen) -> dict[str, Any] | None:
    if seen.release is None:
        return None
    return {**release_json(seen.release), "since": seen.release.since, "previous": seen.release.previous}


def release_json(release: Shelved) -> dict[str, Any]:
    """Return what a release is."""
    return {
        "id": release.id,
        "vllm": release.engine_version,
        "model": release.served_name,
        "weights": release.model,
        "revision": release.model_revision,
        "driver": release.driver,
        "verdict": release.verdict,
        "missing": release.missing,
    }


def _driver(seen: Seen) -> dict[str, Any]:
    return {
        "module": seen.driver.loaded,
        "library": seen.driver.library,
        "nvml": seen.nvml.state,
        "packages": dict(sorted(seen.packages.installed.items())),
        "held": sorted(set(seen.packages.installed) & set(seen.packages.held)),
    }


def _instance(each: Standing) -> dict[str, Any]:
    seen, planned = each.seen, each.planned
    return {
        "name": seen.name,
        "port": planned.port if planned else None,
        "gpus": list(planned.gpus) if planned else [],
        "state": str(each.state),
        "gate": each.gate,
        "told": seen.state,
        "unit": seen.unit.active,
        "enabled": seen.unit.enabled,
        "restarts": seen.unit.restarts,
        "up_s": seen.up_s,
        "config": planned.config if planned else "",
        "running_config": seen.unit.running_config,
        "kv_tokens": seen.kv_tokens,
        "requests_running": seen.load.get("running"),
        "requests_waiting": seen.load.get("waiting"),
    }
