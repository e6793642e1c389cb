"""Cut a card into MIG slices through pynvml (nvidia-ml-py). Runs in a throw-away process, and at each boot."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import pynvml

from rackhand.remote import nvml

SHARED = pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED


def cut(handle: Any, profiles: list[str]) -> None:
    """Cut a card into slices of these profiles, none of them for MIG off; nobody may compute on it.

    Cards before Hopper go over to MIG by a reset, which NVML does if nobody uses the card; else the mode waits for one,
    and the slices for the next call.
    """
    now, later = pynvml.nvmlDeviceGetMigMode(handle)
    if now and profiles and sorted(each["profile"] for each in nvml.slices(handle)) == sorted(profiles):
        return
    if now:
        _clear(handle)
    if later != bool(profiles):
        address = pynvml.nvmlDeviceGetPciInfo(handle).busId
        pynvml.nvmlDeviceSetMigMode(handle, int(bool(profiles)))
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(address)
    if profiles and pynvml.nvmlDeviceGetMigMode(handle)[0]:
        _create(handle, profiles)


def _create(handle: Any, profiles: list[str]) -> None:
    """Create slices, each with all of its compute; the large ones first, for they have the fewest places."""
    known = {nvml.profile_name(info.name): info for info in nvml.mig_profiles(handle)}
    wanted = [known[name] for name in profiles if name in known]
    if len(wanted) < len(profiles):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    for info in sorted(wanted, key=lambda each: (each.memorySizeMB, each.sliceCount), reverse=True):
        part = pynvml.nvmlDeviceCreateGpuInstance(handle, info.id)
        whole = next(each for each in _compute_profiles(part) if each.sliceCount == info.sliceCount)
        pynvml.nvmlGpuInstanceCreateComputeInstance(part, whole.id)


def _clear(handle: Any) -> None:
    for info in nvml.mig_profiles(handle):
        for part in _listed(pynvml.nvmlDeviceGetGpuInstances, handle, info, pynvml.c_nvmlGpuInstance_t):
            for inner in _compute_profiles(part):
                computes = pynvml.nvmlGpuInstanceGetComputeInstances
                for compute in _listed(computes, part, inner, pynvml.c_nvmlComputeInstance_t):
                    pynvml.nvmlComputeInstanceDestroy(compute)
            pynvml.nvmlGpuInstanceDestroy(part)


def _compute_profiles(part: Any) -> list[Any]:
    ask = partial(pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, part)
    numbers = range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT)
    found = [nvml.optional(partial(ask, number, SHARED)) for number in numbers]
    return [each for each in found if each is not None]


def _listed(ask: Callable[..., Any], owner: Any, info: Any, kind: Any) -> list[Any]:
    """Return the instances of one profile that there are."""
    found, count = (kind * max(1, info.instanceCount))(), ctypes.c_uint(0)
    ask(owner, info.id, found, ctypes.byref(count))
    return list(found[: count.value])
