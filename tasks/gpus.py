"""The GPUs through NVML, once the driver is there."""

from rackhand.operations import Change
from rackhand.run import HostRun

NEXT_STEPS = {
    "no-library": "run again; with driver_manage off install the driver",
    "not-loaded": "see the kernel log (dmesg | grep -i nvidia) on the host for why",
    "mismatch": "reboot the host",
    "lost": "look for Xid lines in the kernel log; reset the GPU, reboot or replace it",
    "no-permission": "see owner and mode of /dev/nvidia* on the host",
    "hangs": "look for Xid lines in the kernel log; the GPU needs a reset or a reboot",
    "crashed": "reinstall the driver; see the kernel log on the host",
}


def facts(host: HostRun) -> Change | None:
    """Require that NVML works and shows the planned GPUs, and finish the plan with their UUIDs."""
    if not host.live:
        return None
    nvml = host.survey().nvml
    if nvml.state != "ok":
        raise host.error(
            f"nvml-{nvml.state}",
            f"NVML does not work: {nvml.detail or nvml.state}",
            NEXT_STEPS.get(nvml.state, "look it up in the kernel log (dmesg | grep NVRM) on the host"),
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
