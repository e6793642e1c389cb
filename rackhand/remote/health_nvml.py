"""What NVML says of the health of every GPU, through pynvml (nvidia-ml-py). Runs in a throw-away process."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import pynvml

from rackhand.remote import gpu, nvml

# Answers by which NVML says that a card, or this driver, does not have what was asked for.
ABSENT = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_NO_DATA,
)
GONE = {
    pynvml.NVML_ERROR_NOT_FOUND: "missing",
    pynvml.NVML_ERROR_GPU_IS_LOST: "lost",
    pynvml.NVML_ERROR_RESET_REQUIRED: "reset-required",
}
FABRIC_POLL_S = 1.0
REPLAY_WATCH_S = 1.0
UNCORRECTED, VOLATILE = 1, 0


def probe(fabric_s: float) -> dict[str, Any]:
    """Return NVML's `state` and what it says of every GPU on the bus; one that is gone has its address and state alone.

    A fabric that is still being set up is waited for, `fabric_s` seconds at most. Absent facts are None; `failed` maps
    those that could not be read to NVML's error number.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return {"state": nvml.STATES.get(error.value, nvml.DEFAULT_STATE), "detail": str(error), "gpus": []}
    try:
        addresses, unnamed = _addresses()
        gpus = [_gpu(address) for address in addresses] + unnamed
        _await_fabric(gpus, time.monotonic() + fabric_s)
        _watch_replays(gpus)
        return {"state": "ok", "detail": "", "driver": pynvml.nvmlSystemGetDriverVersion(), "gpus": gpus}
    except pynvml.NVMLError as error:
        return {"state": nvml.STATES.get(error.value, nvml.DEFAULT_STATE), "detail": str(error), "gpus": []}
    finally:
        pynvml.nvmlShutdown()


def _addresses() -> tuple[list[str], list[dict[str, Any]]]:
    """Name every GPU that the bus or NVML has, except those of virtual machines, which are not the driver's.

    Second comes what NVML counts and does not open, as far as no card on the bus can be it: their address is empty.
    """
    ours, opened, shut = gpu.cards(), set(), []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            opened.add(pynvml.nvmlDeviceGetPciInfo(handle).busId.lower()[-12:])
        except pynvml.NVMLError as error:
            shut.append({"address": "", "state": GONE.get(error.value, "error"), "detail": str(error), "failed": {}})
    # A card on the bus that was not opened is asked by its address, and answers for one of these.
    return sorted(ours | opened), shut[len(ours - opened) :]


def _gpu(address: str) -> dict[str, Any]:
    failed: dict[str, int] = {}

    def read(name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except pynvml.NVMLError as error:
            if error.value not in ABSENT:
                failed[name] = int(error.value)
            return None

    try:
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(address)
        uuid = pynvml.nvmlDeviceGetUUID(handle)
    except pynvml.NVMLError as error:
        return {"address": address, "state": GONE.get(error.value, "error"), "detail": str(error), "failed": {}}
    facts = {name: read(name, call) for name, call in _calls(handle).items()}
    return {"address": address, "state": "ok", "detail": "", "uuid": uuid, "failed": failed, **facts}


def _calls(handle: Any) -> dict[str, Callable[[], Any]]:
    """Name every fact with the call that reads it; memory in MiB, power in W."""
    return {**_identity(handle), **_condition(handle)}


def _identity(handle: Any) -> dict[str, Callable[[], Any]]:
    n = pynvml
    return {
        "name": lambda: n.nvmlDeviceGetName(handle),
        "minor": lambda: n.nvmlDeviceGetMinorNumber(handle),
        "vbios": lambda: n.nvmlDeviceGetVbiosVersion(handle),
        "memory_mib": lambda: n.nvmlDeviceGetMemoryInfo(handle, version=n.nvmlMemory_v2).total >> 20,
        "used_mib": lambda: n.nvmlDeviceGetMemoryInfo(handle, version=n.nvmlMemory_v2).used >> 20,
        "processes": lambda: _processes(handle),
    }


def _condition(handle: Any) -> dict[str, Callable[[], Any]]:
    n = pynvml
    return {
        "busy_percent": lambda: n.nvmlDeviceGetUtilizationRates(handle).gpu,
        "remapped": lambda: dict(zip(("correctable", "uncorrectable", "pending", "failed"), _remapped(handle))),
        "retired_pending": lambda: bool(n.nvmlDeviceGetRetiredPagesPendingStatus(handle)),
        "recovery": lambda: _field(handle, n.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION),
        "ecc": lambda: list(n.nvmlDeviceGetEccMode(handle)),
        "ecc_uncorrected": lambda: n.nvmlDeviceGetTotalEccErrors(handle, UNCORRECTED, VOLATILE),
        "sram_threshold": lambda: _sram_threshold(handle),
        "mig": lambda: list(n.nvmlDeviceGetMigMode(handle)),
        "nvlinks": lambda: _nvlinks(handle),
        "fabric": lambda: _fabric(handle),
        "pcie": lambda: _pcie(handle),
        "clock_events": lambda: n.nvmlDeviceGetCurrentClocksEventReasons(handle),
        "power_limit_w": lambda: n.nvmlDeviceGetPowerManagementLimit(handle) // 1000,
        "power_default_w": lambda: n.nvmlDeviceGetPowerManagementDefaultLimit(handle) // 1000,
        "temperature_c": lambda: n.nvmlDeviceGetTemperature(handle, n.NVML_TEMPERATURE_GPU),
        "persistence": lambda: bool(n.nvmlDeviceGetPersistenceMode(handle)),
        "compute_mode": lambda: n.nvmlDeviceGetComputeMode(handle),
    }


def _processes(handle: Any) -> int:
    """Count the processes that NVML names; those of other containers it may not."""
    computing = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return len(computing) + len(pynvml.nvmlDeviceGetGraphicsRunningProcesses(handle))


def _remapped(handle: Any) -> list[Any]:
    rows, uncorrectable, pending, failed = pynvml.nvmlDeviceGetRemappedRows(handle)
    return [rows, uncorrectable, bool(pending), bool(failed)]


def _field(handle: Any, field: int) -> int | None:
    """Return one field's value; each has a result of its own inside of a call that succeeds."""
    value = pynvml.nvmlDeviceGetFieldValues(handle, [field])[0]
    return int(value.value.uiVal) if value.nvmlReturn == pynvml.NVML_SUCCESS else None


def _sram_threshold(handle: Any) -> bool:
    status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
    pynvml.nvmlDeviceGetSramEccErrorStatus(handle, ctypes.byref(status))
    return bool(status.bThresholdExceeded)


def _nvlinks(handle: Any) -> list[bool] | None:
    """Say of each link of a card whether it is up; None where the card has none, or none is in use."""
    lanes: list[bool] = []
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            lanes.append(pynvml.nvmlDeviceGetNvLinkState(handle, link) == pynvml.NVML_FEATURE_ENABLED)
        except pynvml.NVMLError as error:
            if error.value not in ABSENT:
                raise
            break
    return lanes or None


def _fabric(handle: Any) -> dict[str, Any]:
    """Return what the GPU knows of its NVLink fabric; older drivers have an older form, without a summary."""
    info = pynvml.c_nvmlGpuFabricInfo_v3_t()
    try:
        # By reference: passed by value, the library writes where it should not.
        pynvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
    except (pynvml.NVMLError_ArgumentVersionMismatch, pynvml.NVMLError_InvalidArgument):
        info = pynvml.c_nvmlGpuFabricInfo_v2_t()
        pynvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
    return {
        "state": int(info.state),
        "status": int(info.status),
        "clique": f"{bytes(info.clusterUuid).hex()}/{info.cliqueId}",
        "health": int(getattr(info, "healthSummary", 0)),
    }


def _pcie(handle: Any) -> dict[str, Any]:
    """Return width and generation of the link, now and at best with this slot, and how often it sent again."""
    return {
        "width": pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle),
        "max_width": pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle),
        "generation": pynvml.nvmlDeviceGetCurrPcieLinkGeneration(handle),
        "max_generation": pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle),
        "replays": pynvml.nvmlDeviceGetPcieReplayCounter(handle),
        "replays_later": None,
    }


def _await_fabric(gpus: list[dict[str, Any]], deadline: float) -> None:
    """Ask again while a fabric is being set up, which takes some tens of seconds after a boot."""
    for each in gpus:
        while (each.get("fabric") or {}).get("state") == pynvml.NVML_GPU_FABRIC_STATE_IN_PROGRESS:
            if time.monotonic() >= deadline:
                return
            time.sleep(FABRIC_POLL_S)
            each["fabric"] = _fabric(pynvml.nvmlDeviceGetHandleByPciBusId(each["address"]))


def _watch_replays(gpus: list[dict[str, Any]]) -> None:
    """Read the counters again that are not zero: some replays are history, growing ones are a bad link."""
    watched = [each for each in gpus if (each.get("pcie") or {}).get("replays")]
    if watched:
        time.sleep(REPLAY_WATCH_S)
    for each in watched:
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(each["address"])
        each["pcie"]["replays_later"] = pynvml.nvmlDeviceGetPcieReplayCounter(handle)
