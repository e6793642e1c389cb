"""Set what is wished of each GPU: power limit, ECC, MIG. Runs in a throw-away process, and at each boot."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml

from rackhand.remote import gpu_slices


def main() -> None:
    """Set every GPU as the file says that the second argument names; end with 1 when one could not be set."""
    path = Path(sys.argv[2])
    failed = apply(json.loads(path.read_text()) if path.exists() else {})
    sys.stderr.writelines(f"{line}\n" for line in failed)
    sys.exit(bool(failed))


def apply(wishes: dict[str, dict[str, Any]]) -> list[str]:
    """Set GPUs by their PCI addresses (`power_limit_w` in W, `ecc`, `mig`) and return what did not work, a line each.

    ECC, and MIG on cards that are in use, become what is wished at the next reset of the GPU or reboot. Asking makes
    the device nodes of all GPUs.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return [f"NVML does not work: {error}"]
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            pynvml.nvmlDeviceGetHandleByIndex(index)
        return [line for address, wish in wishes.items() for line in _set(address, wish)]
    except pynvml.NVMLError as error:
        return [f"NVML does not work: {error}"]
    finally:
        pynvml.nvmlShutdown()


def _set(address: str, wish: dict[str, Any]) -> Iterator[str]:
    """Set one GPU; what fails does not keep the rest from being set."""
    for name, value in wish.items():
        try:
            SETTERS[name](pynvml.nvmlDeviceGetHandleByPciBusId(address), value)
        except pynvml.NVMLError as error:
            yield f"{address}: {name} {value}: {error}"


def _power(handle: Any, watts: int) -> None:
    if pynvml.nvmlDeviceGetPowerManagementLimit(handle) != watts * 1000:
        pynvml.nvmlDeviceSetPowerManagementLimit(handle, watts * 1000)


def _ecc(handle: Any, wished: bool) -> None:
    if pynvml.nvmlDeviceGetEccMode(handle)[1] != wished:
        pynvml.nvmlDeviceSetEccMode(handle, int(wished))


SETTERS: dict[str, Callable[[Any, Any], None]] = {"power_limit_w": _power, "ecc": _ecc, "mig": gpu_slices.cut}
