"""Which GPUs of a host can be set, and what a setting that tells cards apart says of each. Pure."""

from collections.abc import Mapping
from typing import Any

from rackhand.gpu_facts import NvmlGpu
from rackhand.seen import inventory
from rackhand.survey import Survey

ALL = "all"


def able(survey: Survey) -> tuple[NvmlGpu, ...]:
    """Return the GPUs that can be asked."""
    return tuple(gpu for gpu in survey.nvml.gpus if not gpu.lost) if survey.nvml.state == "ok" else ()


def of_card(wish: Any, survey: Survey, gpu: NvmlGpu) -> Any:
    """Return what a setting says of one GPU: by its address, else by the longest part of its name, else for all."""
    if not isinstance(wish, Mapping):
        return wish
    if gpu.address in wish:
        return wish[gpu.address]
    names = [gpu.name, *(each.card.name for each in inventory(survey).gpus if each.address == gpu.address)]
    fitting = [key for key in wish if any(key.casefold() in name.casefold() for name in names)]
    return wish[max(fitting, key=len)] if fitting else wish.get(ALL)
