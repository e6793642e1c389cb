"""Whether the driver works: versions that belong together, NVML, CUDA, the fabric's manager, device nodes. Pure."""

from collections.abc import Iterator

from rackhand.hardware import Inventory
from rackhand.health.notice import notice
from rackhand.health.seen import CudaSeen, Seen
from rackhand.outcome import Finding
from rackhand.remote.dpkg import upstream

FABRICMANAGER = "nvidia-fabricmanager"
# Results of cuInit whose causes differ (CUDA driver API, CUresult).
CUDA = {
    3: "cuda-uninitialized",
    100: "cuda-no-device",
    802: "cuda-not-ready",
    803: "cuda-mismatch",
    804: "cuda-compat",
    999: "cuda-unknown",
}
CUDA_STATES = {"no-library": "cuda-no-library", "hangs": "cuda-hangs", "crashed": "cuda-crashed"}


def driver(seen: Seen) -> Iterator[Finding]:
    """Hold module, library and NVML against each other."""
    loaded, library = seen.driver.loaded, seen.driver.library
    versions = f"module {loaded or 'none'}, library {library or 'none'}"
    if seen.nvml.state != "ok":
        yield notice(f"nvml-{seen.nvml.state}", f"{seen.nvml.detail} ({versions})".strip())
    elif loaded != library:
        yield notice("driver-mismatch", versions)


def cuda(seen: Seen) -> Iterator[Finding]:
    """Tell why CUDA does not start, each result by its own cause."""
    said = seen.cuda
    if said.state == "ok":
        yield from _devices(seen)
    elif said.state in CUDA_STATES:
        yield notice(CUDA_STATES[said.state], said.detail)
    else:
        yield notice(CUDA.get(said.code, "cuda-failed"), _result(said))


def _result(said: CudaSeen) -> str:
    return f"cuInit answered {said.code}{f' ({said.name})' if said.name else ''}"


def _devices(seen: Seen) -> Iterator[Finding]:
    """Count what CUDA shows: a card each, of one that is cut into slices at least one of all."""
    sliced = any(gpu.mig and gpu.mig[0] for gpu in seen.well)
    expected = 1 if sliced else len(seen.well)
    if seen.cuda.devices < expected:
        yield notice("cuda-devices", f"{seen.cuda.devices} of {expected}")


def fabric_service(seen: Seen, bus: Inventory) -> Iterator[Finding]:
    """Where NVSwitches join the GPUs, their manager must run at the driver's version."""
    if not bus.needs_fabric_manager:
        return
    unit = seen.unit(FABRICMANAGER)
    versions = {name: upstream(version) for name, version in sorted(seen.fabric_packages.items())}
    other = {name: version for name, version in versions.items() if version != (seen.driver.loaded or version)}
    if not unit.there:
        yield notice("fabricmanager-missing", "the GPUs are joined by NVSwitches")
    elif other:
        said = ", ".join(f"{name} {version}" for name, version in other.items())
        yield notice("fabricmanager-mismatch", f"{said}, module {seen.driver.loaded}")
    if unit.there and unit.active != "active":
        yield notice("fabricmanager-down", f"it is {unit.active}{f' ({unit.ended})' if unit.ended else ''}")


def nodes(seen: Seen) -> Iterator[Finding]:
    """Servers run without rights of their own, so that everybody must be able to open the driver's nodes."""
    if seen.nvml.state != "ok":
        return
    cards = [f"nvidia{gpu.minor}" for gpu in seen.well if gpu.minor is not None]
    there = {node.name: node for node in seen.nodes}
    missing = [name for name in ("nvidiactl", "nvidia-uvm", *cards) if name not in there]
    shut = [node.name for node in seen.nodes if not (node.open and node.device)]
    words = [
        *([f"missing: {', '.join(missing)}"] if missing else []),
        *([f"shut: {', '.join(sorted(shut))}"] if shut else []),
    ]
    if words:
        yield notice("device-node", f"/dev, {'; '.join(words)}")
