"""One call that reads everything the planner and the steps need to know about a host. It changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rackhand.remote import driver_facts, driver_journal, gpu, gpu_setup, host, service, shelf, state


def survey(
    root: str,
    ports: list[int],
    packages: list[str],
    venv: str,
    model: str,
    uv: str,
    user: str,
    nvml_payload: str,
    loader: str,
    services: list[str],
) -> dict[str, Any]:
    """Return host, resources, PCI, NUMA nodes, driver, packages, NVML, services, ports, locks, own state, releases.

    `ground` is what a driver would be put onto.
    """
    identity = host.identity()
    return {
        "host": identity,
        "resources": host.resources(root),
        "pci": gpu.pci(),
        "nodes": gpu.nodes(),
        "driver": gpu.driver(),
        "packages": gpu.packages(packages),
        "ground": driver_facts.facts(identity["secure_boot"]),
        "driver_sets": driver_journal.standing(Path(root)),
        "nvml": gpu.nvml(loader, nvml_payload),
        "setup": gpu_setup.seen(root, services),
        "listeners": host.listeners(ports),
        "apt_lock": host.apt_lock_holder(),
        "state": {**state.state(root, venv, model, uv, user), "in_service": service.names(Path(root))},
        "shelf": shelf.records(root),
    }
