"""The GPUs through NVML, once the driver is there."""

from rackhand import remedies
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
            remedies.nvml(nvml.state),
        )
    before = _cards(host)
    host.replan()
    now = _cards(host)
    if now != before:
        raise host.error(
            "gpu-count",
            f"{before} GPUs were planned from PCI, NVML shows {now}",
            "look for fallen GPUs in the kernel log",
        )
    return None


def _cards(host: HostRun) -> int:
    """Count the planned cards; one that is cut into slices is one."""
    return len({gpu.address for gpu in host.planned.gpus})
