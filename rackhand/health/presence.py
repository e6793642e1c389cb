"""Whether all GPUs are there: on the bus, in NVML, for the inventory and for what is deployed. Pure."""

from collections.abc import Iterator

from rackhand.hardware import Inventory, describe
from rackhand.health.notice import notice
from rackhand.health.policy import Promised
from rackhand.health.seen import GpuSeen, Seen
from rackhand.outcome import Finding

ABSENCES = {"missing": "gpu-not-in-nvml", "lost": "gpu-lost", "reset-required": "gpu-reset-required"}
# What NVML answers when a GPU went away, or wants a reset, while it was being asked.
LATE_ABSENCES = {15: "gpu-lost", 16: "gpu-reset-required"}


def promised(bus: Inventory, wished: Promised) -> Iterator[Finding]:
    """Hold the bus against the inventory's gpu_count and gpu_model."""
    if not bus.gpus:
        count = wished.gpu_count
        yield notice("no-gpu", f"the inventory promises {count}" if count else "")
    elif wished.gpu_count is not None and wished.gpu_count != len(bus.gpus):
        yield notice("gpu-count", f"{bus.describe()} here, {wished.gpu_count} promised")
    model = (wished.gpu_model or "").lower()
    others = [gpu.card.name for gpu in bus.gpus if model not in gpu.card.name.lower()]
    if others:
        yield notice("gpu-model", f"{describe(others)} here, {wished.gpu_model} promised")


def present(seen: Seen) -> Iterator[Finding]:
    """Name every GPU that NVML does not have, lost, or fails to read, and GPUs of one name that differ."""
    for gpu in seen.nvml.gpus:
        if gpu.state != "ok":
            yield notice(ABSENCES.get(gpu.state, "gpu-unreadable"), gpu.detail, gpu.address)
        else:
            yield from _readable(gpu)
    yield from _alike(seen.well)


def _readable(gpu: GpuSeen) -> Iterator[Finding]:
    gone = {LATE_ABSENCES[number] for number in gpu.failed.values() if number in LATE_ABSENCES}
    yield from (notice(code, "while it was being asked", gpu.address) for code in sorted(gone))
    if gpu.failed and not gone:
        said = ", ".join(f"{name} (NVML error {number})" for name, number in sorted(gpu.failed.items()))
        yield notice("gpu-unreadable", said, gpu.address)


def _alike(gpus: tuple[GpuSeen, ...]) -> Iterator[Finding]:
    for name in sorted({gpu.name for gpu in gpus}):
        same = [gpu for gpu in gpus if gpu.name == name]
        sizes = sorted({gpu.memory_mib for gpu in same if gpu.memory_mib is not None})
        firmware = sorted({gpu.vbios for gpu in same if gpu.vbios})
        differ = [
            *([f"{', '.join(f'{size:,}' for size in sizes)} MiB"] if len(sizes) > 1 else []),
            *([f"firmware {', '.join(firmware)}"] if len(firmware) > 1 else []),
        ]
        if differ:
            yield notice("gpu-mixed", f"{name}: {'; '.join(differ)}")


def dwindled(seen: Seen) -> Iterator[Finding]:
    """Name the GPUs of the current release that are gone without another card in their place."""
    if seen.nvml.state != "ok":
        return
    there = {gpu.uuid for gpu in seen.well}
    used = {uuid for engine in seen.engines for uuid in engine.gpus if uuid.startswith("GPU-")}
    gone = sorted(used - there)
    if len(gone) > len(there - used):
        yield notice("gpu-missing", f"{', '.join(gone)}, and no other card is in its place")


def deployed(seen: Seen) -> Iterator[Finding]:
    """Name the GPUs of the current release's servers that are not there; slices of GPUs are not looked for."""
    if seen.nvml.state != "ok":
        return
    there = {gpu.uuid for gpu in seen.well}
    for engine in seen.engines:
        gone = [uuid for uuid in engine.gpus if uuid.startswith("GPU-") and uuid not in there]
        if gone:
            yield notice("gpu-missing", f"{', '.join(gone)} of vllm@{engine.name}")
