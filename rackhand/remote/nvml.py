"""The NVML probe: every fact through pynvml (nvidia-ml-py), each absent one as None. Runs in a throw-away process."""

from __future__ import annotations

from collections.abc import Callable
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


def _gpu(index: int) -> dict[str, Any]:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError_GpuIsLost as error:
        return {"index": index, "lost": True, "detail": str(error)}
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return {
        "index": index,
        "lost": False,
        "uuid": uuid,
        "name": pynvml.nvmlDeviceGetName(handle),
        "address": _address(pynvml.nvmlDeviceGetPciInfo(handle).busId),
        "memory_mib": memory.total >> 20,
        "reserved_mib": memory.reserved >> 20,
        "free_mib": memory.free >> 20,
        "capability": [major, minor],
        "mig": _optional(lambda: pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE),
        "ecc": _optional(lambda: pynvml.nvmlDeviceGetEccMode(handle)[0] == pynvml.NVML_FEATURE_ENABLED),
        "power_limit_w": _optional(lambda: pynvml.nvmlDeviceGetPowerManagementLimit(handle) // 1000),
        "nvlinks": _nvlinks(handle),
        "processes": _optional(lambda: [item.pid for item in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]),
    }


def _address(bus_id: str) -> str:
    """NVML writes an 8-digit PCI domain, sysfs a 4-digit one."""
    return bus_id.lower()[-12:]


def _nvlinks(handle: Any) -> int:
    active = 0
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            active += pynvml.nvmlDeviceGetNvLinkState(handle, link) == pynvml.NVML_FEATURE_ENABLED
        except pynvml.NVMLError:
            break
    return active


def _optional(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except pynvml.NVMLError:
        return None
