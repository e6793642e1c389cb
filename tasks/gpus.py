"""The GPUs through NVML, once the driver is there."""

from rackhand.operations import Change
from rackhand.run import HostRun


def facts(host: HostRun) -> Change | None:
    """Require that NVML works and shows the planned GPUs, and finish the plan with their UUIDs."""
    if not host.live:
        return None
    nvml = host.survey().nvml
    if nvml.state != "ok":
        raise host.error(
            f"nvml-{nvml.state}",
            f"NVML does not work: {nvml.detail or nvml.state}",
            "look at the kernel log (dmesg | grep NVRM) on the host",
        )
    before = host.planned
    host.replan()
    if len(host.planned.gpus) != len(before.gpus):
        raise host.error(
            "gpu-count",
            f"{len(before.gpus)} GPUs were planned from PCI, NVML shows {len(host.planned.gpus)}",
            "look for fallen GPUs in the kernel log",
        )
    return None
