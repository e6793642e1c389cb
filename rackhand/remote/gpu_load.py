"""How busy the GPUs are, through pynvml (nvidia-ml-py). Runs in a throw-away process, as the NVML probe does."""

from __future__ import annotations

import time
from typing import Any

import pynvml

EVERY_S = 0.5


def sample(seconds: int) -> dict[str, Any]:
    """Return each GPU's compute capability and samples of its utilisation in percent; nothing without NVML."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        gpus: dict[str, Any] = {pynvml.nvmlDeviceGetUUID(handle): _gpu(handle) for handle in handles}
        deadline = time.monotonic() + seconds
        while True:
            for handle, gpu in zip(handles, gpus.values()):
                gpu["busy"] += _busy(handle)
            if time.monotonic() >= deadline:
                return gpus
            time.sleep(EVERY_S)
    except pynvml.NVMLError:
        return {}
    finally:
        pynvml.nvmlShutdown()


def _gpu(handle: Any) -> dict[str, Any]:
    return {"capability": list(pynvml.nvmlDeviceGetCudaComputeCapability(handle)), "busy": []}


def _busy(handle: Any) -> list[int]:
    """MIG slices and some cards do not say."""
    try:
        return [pynvml.nvmlDeviceGetUtilizationRates(handle).gpu]
    except pynvml.NVMLError:
        return []
