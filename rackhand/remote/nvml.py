"""The NVML probe: every fact through pynvml (nvidia-ml-py), each absent one as None. Runs in a throw-away process."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pynvml

STATES = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no-library",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "not-loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "mismatch",
    pynvml.NVML_ERROR_NO_PERMISSION: "no-permission",
    pynvml.NVML_ERROR_GPU_IS_LOST: "lost",
}
DEFAULT_STATE = "error"


def probe() -> dict[str, Any]:
    """Return `state` (ok, no-library, not-loaded, mismatch, …), the driver and every GPU; memory in MiB, power in W."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return {"state": STATES.get(error.value, DEFAULT_STATE), "detail": str(error), "gpus": []}
    try:
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        count = pynvml.nvmlDeviceGetCount()
        gpus = [_gpu(index) for index in range(count)]
        return {
            "state": "lost" if any(gpu["lost"] for gpu in gpus) else "ok",
            "detail": "",
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}",
            "gpus": gpus,
        }
    except pynvml.NVMLError as error:
        return {"state": STATES.get(error.value, DEFAULT_STATE), "detail": str(error), "gpus": []}
    finally:
        pynvml.nvmlShutdown()


def main() -> None:
    """Print each GPU's compute processes as JSON, once a line comes in; what cannot be asked is left out."""
    sys.stdin.readline()
    gpus: list[dict[str, Any]] = []
    try:
        pynvml.nvmlInit()
        handles = [optional(partial(pynvml.nvmlDeviceGetHandleByIndex, index)) for index in range(_count())]
        gpus = [each for each in (optional(partial(_computing, handle)) for handle in handles if handle) if each]
    except pynvml.NVMLError as error:
        sys.stderr.write(f"{error}\n")
    print(json.dumps(gpus))


def _count() -> int:
    return int(pynvml.nvmlDeviceGetCount())


def _computing(handle: Any) -> dict[str, Any]:
    found = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return {"uuid": pynvml.nvmlDeviceGetUUID(handle), "processes": [_process(item) for item in found]}


def _gpu(index: int) -> dict[str, Any]:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_ResetRequired) as error:
        return {"index": index, "lost": True, "detail": str(error)}
    return {
        "index": index,
        "lost": False,
        "uuid": uuid,
        "name": pynvml.nvmlDeviceGetName(handle),
        "address": _address(pynvml.nvmlDeviceGetPciInfo(handle).busId),
        "memory_mib": memory.total >> 20,
        "reserved_mib": taken_mib(memory.reserved),
        "free_mib": memory.free >> 20,
        "capability": list(pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
        **_modes(handle),
        **_links(handle),
        "slices": slices(handle),
        "processes": optional(lambda: [_process(item) for item in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]),
    }


def _modes(handle: Any) -> dict[str, Any]:
    """Say what can be set: power in W with its limits, persistence; MIG and ECC, now and after the next reset."""
    mig = optional(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    ecc = optional(lambda: pynvml.nvmlDeviceGetEccMode(handle))
    milliwatts = optional(lambda: pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle))
    return {
        "persistence": optional(lambda: bool(pynvml.nvmlDeviceGetPersistenceMode(handle))),
        "mig": None if mig is None else mig[0] == pynvml.NVML_DEVICE_MIG_ENABLE,
        "mig_pending": None if mig is None else mig[1] == pynvml.NVML_DEVICE_MIG_ENABLE,
        "mig_profiles": [_profile(each) for each in mig_profiles(handle)],
        "ecc": None if ecc is None else ecc[0] == pynvml.NVML_FEATURE_ENABLED,
        "ecc_pending": None if ecc is None else ecc[1] == pynvml.NVML_FEATURE_ENABLED,
        "power_limit_w": optional(lambda: pynvml.nvmlDeviceGetPowerManagementLimit(handle) // 1000),
        "power_default_w": optional(lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle) // 1000),
        "power_range_w": None if milliwatts is None else [-(-milliwatts[0] // 1000), milliwatts[1] // 1000],
    }


def taken_mib(size: int) -> int:
    """Return bytes that are taken as MiB, a begun one counted whole: an H200 reserves 615.06, and CUDA has 143,155."""
    return -(-size >> 20)


def _address(bus_id: str) -> str:
    """NVML writes an 8-digit PCI domain, sysfs a 4-digit one."""
    return bus_id.lower()[-12:]


def _links(handle: Any) -> dict[str, Any]:
    """Count the active NVLinks and say what is at their other ends: NVSwitches, or devices at PCI addresses.

    `peers` is None where a link is active and the driver does not tell its other end.
    """
    active = [link for link in range(_link_count(handle)) if _is_active(handle, link)]
    kinds = [optional(partial(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link)) for link in active]
    direct = [link for link, kind in zip(active, kinds) if kind != pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH]
    ends = [optional(partial(pynvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, link)) for link in direct]
    known = all(end is not None for end in ends)
    return {
        "nvlinks": len(active),
        "switched": len(direct) < len(active),
        "peers": sorted({_address(end.busId) for end in ends}) if known else None,
    }


def _link_count(handle: Any) -> int:
    """Count the links that a card has, in use or not."""
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        if optional(partial(pynvml.nvmlDeviceGetNvLinkState, handle, link)) is None:
            return link
    return int(pynvml.NVML_NVLINK_MAX_LINKS)


def _is_active(handle: Any, link: int) -> bool:
    state = optional(partial(pynvml.nvmlDeviceGetNvLinkState, handle, link))
    return bool(state == pynvml.NVML_FEATURE_ENABLED)


def mig_profiles(handle: Any) -> list[Any]:
    """Return NVML's descriptions of the slices that a card can be cut into, MIG on or off."""
    numbers = range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT)
    found = [optional(partial(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, number)) for number in numbers]
    return [each for each in found if each is not None]


def profile_name(told: str) -> str:
    """Return how people call a slice that NVML calls '… MIG 3g.71gb'."""
    return told.rpartition("MIG ")[2]


def _profile(info: Any) -> dict[str, Any]:
    return {
        "name": profile_name(info.name),
        "slices": info.sliceCount,
        "most": info.instanceCount,
        "memory_mib": info.memorySizeMB,
    }


def slices(handle: Any) -> list[dict[str, Any]]:
    """Describe the MIG slices; their numbers may have gaps."""
    most = optional(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0
    found = [optional(partial(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)) for index in range(most)]
    told = [optional(partial(_slice, each)) for each in found if each is not None]
    return [each for each in told if each is not None]


def _slice(handle: Any) -> dict[str, Any]:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return {
        "uuid": pynvml.nvmlDeviceGetUUID(handle),
        "profile": profile_name(pynvml.nvmlDeviceGetName(handle)),
        "memory_mib": memory.total >> 20,
        "free_mib": memory.free >> 20,
    }


def _process(item: Any) -> dict[str, Any]:
    """Say what a process holds and which systemd unit it belongs to; empty when it cannot be told."""
    try:
        groups = Path(f"/proc/{item.pid}/cgroup").read_text()
    except OSError:
        groups = ""
    units = re.findall(r"([^/\n]+\.(?:service|scope))", groups)
    held = item.usedGpuMemory
    return {"pid": item.pid, "mib": None if held is None else held >> 20, "unit": units[-1] if units else ""}


def optional(read: Callable[[], Any]) -> Any:
    """Return what is read, None where NVML has no answer."""
    try:
        return read()
    except pynvml.NVMLError:
        return None
