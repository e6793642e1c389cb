"""What NVML measures of every GPU, as a page in Prometheus' text format. Runs in a throw-away process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pynvml

from rackhand.remote import gpu, metrics, nvml

Labels = dict[str, str]
PREFIX = "rackhand_gpu_"
UNCORRECTED, CORRECTED, VOLATILE = 1, 0, 0
# Why clocks are lower than they could be, as far as somebody can do something about it.
SLOWDOWNS = {
    "hardware_thermal": pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
    "software_thermal": pynvml.nvmlClocksThrottleReasonSwThermalSlowdown,
    "power_brake": pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
    "power_limit": pynvml.nvmlClocksThrottleReasonSwPowerCap,
}


class Metric(NamedTuple):
    """One metric: its name without our prefix, its type, what it says, and how one GPU's values are read."""

    name: str
    kind: str
    help: str
    read: Callable[[Any], Any]


def main() -> None:
    """Print the page; a page that says that NVML does not work is one too."""
    sys.stdout.write(page())


def page() -> str:
    """Return the page in base units (bytes, watts, celsius, hertz); what a card cannot tell is left out."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return metrics.DOWN.format(nvml.STATES.get(error.value, nvml.DEFAULT_STATE))
    try:
        return "".join(_lines())
    except pynvml.NVMLError as error:
        return metrics.DOWN.format(nvml.STATES.get(error.value, nvml.DEFAULT_STATE))
    finally:
        pynvml.nvmlShutdown()


def _lines() -> Iterator[str]:
    found = [_opened(index) for index in range(pynvml.nvmlDeviceGetCount())]
    driver, on_bus = pynvml.nvmlSystemGetDriverVersion(), len(gpu.cards())
    yield from _metric("up", "gauge", "Whether NVML answered: 1 or 0.", [({"state": "ok"}, 1)])
    yield from _metric("driver_info", "gauge", "The loaded driver.", [({"version": driver}, 1)])
    counts = [({"seen_by": "nvml"}, len(found)), ({"seen_by": "pci"}, on_bus)]
    yield from _metric("devices", "gauge", "GPUs that NVML has, and that the PCI bus has for the driver.", counts)
    answers = [(labels, int(handle is not None)) for labels, handle in found]
    yield from _metric("reachable", "gauge", "Whether a GPU answers; 0 for one that fell off the bus.", answers)
    for each in METRICS:
        samples = [pair for labels, handle in found if handle is not None for pair in _samples(each, labels, handle)]
        yield from _metric(each.name, each.kind, each.help, samples)


def _opened(index: int) -> tuple[Labels, Any]:
    """Return the labels of a GPU and its handle; None for one that does not answer."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        address = pynvml.nvmlDeviceGetPciInfo(handle).busId.lower()[-12:]
        return {"gpu": str(index), "uuid": pynvml.nvmlDeviceGetUUID(handle), "pci": address}, handle
    except pynvml.NVMLError:
        return {"gpu": str(index), "uuid": "", "pci": ""}, None


def _samples(metric: Metric, labels: Labels, handle: Any) -> Iterator[tuple[Labels, Any]]:
    try:
        value = metric.read(handle)
    except pynvml.NVMLError:
        return
    for more, number in value if isinstance(value, list) else [({}, value)]:
        yield {**labels, **more}, number


def _metric(name: str, kind: str, said: str, samples: list[tuple[Labels, Any]]) -> Iterator[str]:
    if samples:
        yield f"# HELP {PREFIX}{name} {said}\n# TYPE {PREFIX}{name} {kind}\n"
    for labels, value in samples:
        words = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{PREFIX}{name}{{{words}}} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _memory(handle: Any) -> Any:
    return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)


def _clock(kind: int) -> Callable[[Any], int]:
    return lambda handle: int(pynvml.nvmlDeviceGetClockInfo(handle, kind)) * 1_000_000


def _slowdowns(handle: Any) -> list[tuple[Labels, int]]:
    now = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    return [({"reason": name}, int(bool(now & bit))) for name, bit in SLOWDOWNS.items()]


def _ecc(handle: Any) -> list[tuple[Labels, int]]:
    kinds = {"corrected": CORRECTED, "uncorrected": UNCORRECTED}
    count = pynvml.nvmlDeviceGetTotalEccErrors
    return [({"kind": name}, count(handle, kind, VOLATILE)) for name, kind in kinds.items()]


def _remapped(handle: Any) -> list[tuple[Labels, int]]:
    rows = pynvml.nvmlDeviceGetRemappedRows(handle)
    return [({"kind": "corrected"}, rows[0]), ({"kind": "uncorrected"}, rows[1])]


def _nvlinks(handle: Any) -> list[tuple[Labels, int]]:
    states = []
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            states.append(pynvml.nvmlDeviceGetNvLinkState(handle, link) == pynvml.NVML_FEATURE_ENABLED)
        except pynvml.NVMLError:
            break
    counts = {"up": sum(states), "down": len(states) - sum(states)}
    return [({"state": name}, count) for name, count in counts.items()] if states else []


METRICS = (
    Metric("info", "gauge", "The card's name.", lambda h: [({"name": pynvml.nvmlDeviceGetName(h)}, 1)]),
    Metric("memory_total_bytes", "gauge", "Memory of the card.", lambda h: _memory(h).total),
    Metric("memory_reserved_bytes", "gauge", "Memory that the driver keeps for itself.", lambda h: _memory(h).reserved),
    Metric("memory_used_bytes", "gauge", "Memory in use.", lambda h: _memory(h).used),
    Metric(
        "busy_ratio",
        "gauge",
        "Share of the last second or less in which a kernel ran.",
        lambda h: pynvml.nvmlDeviceGetUtilizationRates(h).gpu / 100,
    ),
    Metric(
        "memory_busy_ratio",
        "gauge",
        "Share of the last second or less in which memory was read or written.",
        lambda h: pynvml.nvmlDeviceGetUtilizationRates(h).memory / 100,
    ),
    Metric("power_watts", "gauge", "Power that is drawn.", lambda h: pynvml.nvmlDeviceGetPowerUsage(h) / 1000),
    Metric(
        "power_limit_watts",
        "gauge",
        "Power that may be drawn.",
        lambda h: pynvml.nvmlDeviceGetPowerManagementLimit(h) / 1000,
    ),
    Metric(
        "energy_joules_total",
        "counter",
        "Energy since the driver was loaded.",
        lambda h: pynvml.nvmlDeviceGetTotalEnergyConsumption(h) / 1000,
    ),
    Metric(
        "temperature_celsius",
        "gauge",
        "Temperature of the chip.",
        lambda h: pynvml.nvmlDeviceGetTemperature(h, pynvml.NVML_TEMPERATURE_GPU),
    ),
    Metric("sm_clock_hertz", "gauge", "Clock of the multiprocessors.", _clock(pynvml.NVML_CLOCK_SM)),
    Metric("memory_clock_hertz", "gauge", "Clock of the memory.", _clock(pynvml.NVML_CLOCK_MEM)),
    Metric("slowed_down", "gauge", "Whether clocks are lowered for a reason: 1 or 0.", _slowdowns),
    Metric("ecc_errors_total", "counter", "Memory errors since the driver was loaded.", _ecc),
    Metric("remapped_rows", "gauge", "Rows of memory that were replaced by spare ones.", _remapped),
    Metric(
        "remap_pending",
        "gauge",
        "Whether a row is replaced at the next reset: 1 or 0.",
        lambda h: int(pynvml.nvmlDeviceGetRemappedRows(h)[2]),
    ),
    Metric(
        "remap_failed",
        "gauge",
        "Whether a row could not be replaced: 1 or 0.",
        lambda h: int(pynvml.nvmlDeviceGetRemappedRows(h)[3]),
    ),
    Metric(
        "retired_pages_pending",
        "gauge",
        "Whether a page is taken out of use at the next reset: 1 or 0.",
        lambda h: int(pynvml.nvmlDeviceGetRetiredPagesPendingStatus(h)),
    ),
    Metric("pcie_replays_total", "counter", "Packets sent again over PCIe.", pynvml.nvmlDeviceGetPcieReplayCounter),
    Metric("pcie_width_lanes", "gauge", "PCIe lanes in use.", pynvml.nvmlDeviceGetCurrPcieLinkWidth),
    Metric("nvlinks", "gauge", "NVLinks of the card.", _nvlinks),
    Metric(
        "persistence_mode",
        "gauge",
        "Whether the card stays awake without users: 1 or 0.",
        pynvml.nvmlDeviceGetPersistenceMode,
    ),
)
