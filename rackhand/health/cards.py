"""The condition of each card: memory, what the driver asks for, what slows it down, its modes. Pure."""

from collections.abc import Iterator

from rackhand.health.notice import notice
from rackhand.health.seen import GpuSeen
from rackhand.outcome import Finding

# NVML's numbers of what the driver wants done (nvml.h, nvmlDeviceGpuRecoveryAction_t).
RECOVERIES = {
    1: "a reset of the GPU",
    2: "a reboot of the host",
    3: "that work between GPUs ends",
    4: "that work ends, and a reset of the GPU",
    5: "a recovery of the IMEX domain",
    6: "a reset of the GPU's bus",
    7: "a reboot of the system",
}
# Bits of the reasons for lower clocks (nvml.h, nvmlClocksEventReason…).
HW_SLOWDOWN, SW_THERMAL, HW_THERMAL, POWER_BRAKE = 0x8, 0x20, 0x40, 0x80
PROHIBITED, EXCLUSIVE = 2, (1, 3)
# What a card holds without any process: contexts that end, some 100 MiB.
HELD_MIB = 1024


def condition(gpu: GpuSeen) -> Iterator[Finding]:
    """Yield everything about one card that answers."""
    yield from _memory(gpu)
    yield from _slowed(gpu)
    yield from _modes(gpu)


def _memory(gpu: GpuSeen) -> Iterator[Finding]:
    rows = gpu.remapped
    if rows is not None and rows.failed:
        yield notice("row-remap-failed", gpu=gpu.address)
    elif rows is not None and rows.pending:
        yield notice("row-remap-pending", f"{rows.uncorrectable + rows.correctable} remapped", gpu.address)
    if gpu.retired_pending:
        yield notice("retired-page-pending", gpu=gpu.address)
    if gpu.ecc_uncorrected:
        yield notice("ecc-uncorrected", str(gpu.ecc_uncorrected), gpu.address)
    if gpu.sram_threshold:
        yield notice("sram-threshold", gpu=gpu.address)
    if gpu.recovery:
        yield notice("recovery-action", RECOVERIES.get(gpu.recovery, f"its number {gpu.recovery}"), gpu.address)


def _slowed(gpu: GpuSeen) -> Iterator[Finding]:
    reasons = gpu.clock_events or 0
    degrees = f"{gpu.temperature_c} °C" if gpu.temperature_c is not None else ""
    if reasons & (SW_THERMAL | HW_THERMAL):
        yield notice("thermal-slowdown", degrees, gpu.address)
    if reasons & POWER_BRAKE:
        yield notice("power-brake", gpu=gpu.address)
    if reasons & HW_SLOWDOWN and not reasons & (HW_THERMAL | POWER_BRAKE):
        yield notice("hw-slowdown", degrees, gpu.address)
    limit, default = gpu.power_limit_w, gpu.power_default_w
    if limit is not None and default is not None and limit < default:
        yield notice("power-limit", f"{limit} of {default} W", gpu.address)


def _modes(gpu: GpuSeen) -> Iterator[Finding]:
    if gpu.ecc is not None and gpu.ecc[0] != gpu.ecc[1]:
        yield notice("ecc-pending", f"ECC is {_on(gpu.ecc[0])} and will be {_on(gpu.ecc[1])}", gpu.address)
    if gpu.mig is not None and gpu.mig[0] != gpu.mig[1]:
        yield notice("mig-pending", f"MIG is {_on(gpu.mig[0])} and will be {_on(gpu.mig[1])}", gpu.address)
    if gpu.persistence is False:
        yield notice("persistence-off", gpu=gpu.address)
    if gpu.compute_mode == PROHIBITED:
        yield notice("compute-mode", gpu=gpu.address)
    elif gpu.compute_mode in EXCLUSIVE:
        yield notice("compute-exclusive", gpu=gpu.address)
    sliced = bool(gpu.mig and gpu.mig[0])  # processes of slices are not counted
    if gpu.processes == 0 and not sliced and (gpu.used_mib or 0) >= HELD_MIB:
        yield notice("memory-held", f"{gpu.used_mib:,} MiB", gpu.address)


def _on(mode: int) -> str:
    return "on" if mode else "off"
