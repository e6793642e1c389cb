"""What GPUs are set to where that is wished: power limit, ECC. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from rackhand.gpu_facts import NvmlGpu
from rackhand.outcome import Problem
from rackhand.seen import inventory
from rackhand.settings import Settings
from rackhand.survey import Survey

T = TypeVar("T")
ALL = "all"
# What a GPU keeps by itself over a reboot; the rest is set again by the host.
LASTING = ("ecc",)
Modes = Mapping[str, Mapping[str, Any]]


def wished(survey: Survey, settings: Settings) -> Modes:
    """Return what is wished of each GPU by its PCI address: `power_limit_w` in W, `ecc`.

    A limit of ours that is no longer wished goes back to the card's own.
    """
    return {gpu.address: modes for gpu in _gpus(survey) if (modes := dict(_wished(gpu, survey, settings)))}


def _wished(gpu: NvmlGpu, survey: Survey, settings: Settings) -> Iterator[tuple[str, Any]]:
    limit_w = _of_card(settings.gpu_power_limit_w, survey, gpu)
    if limit_w is None and "power_limit_w" in survey.setup.kept.get(gpu.address, {}):
        limit_w = gpu.power_default_w
    if limit_w is not None:
        yield "power_limit_w", limit_w
    if settings.gpu_ecc is not None:
        yield "ecc", settings.gpu_ecc


def kept(survey: Survey, settings: Settings) -> Modes:
    """Return what the host sets again at each boot: what is wished and a GPU forgets."""
    found = {}
    for gpu in _gpus(survey):
        limit_w = _of_card(settings.gpu_power_limit_w, survey, gpu)
        if limit_w is not None:
            found[gpu.address] = {"power_limit_w": limit_w}
    return found


def differing(survey: Survey, modes: Modes) -> Modes:
    """Return those of `modes` that are not so; what is so after the next reset counts as done."""
    found = {}
    for gpu in _gpus(survey):
        now = {"power_limit_w": gpu.power_limit_w, "ecc": gpu.ecc_pending}
        other = {name: value for name, value in modes.get(gpu.address, {}).items() if now[name] != value}
        if other:
            found[gpu.address] = other
    return found


def pending(survey: Survey) -> tuple[str, ...]:
    """Say which GPUs are not yet what they will be after a reset, in words."""
    return tuple(f"ECC {_on(gpu.ecc_pending)} of {gpu.address}" for gpu in _gpus(survey) if gpu.ecc != gpu.ecc_pending)


def words(modes: Modes) -> Iterator[str]:
    """Say modes in words, those of equal GPUs together."""
    found: dict[str, list[str]] = {}
    for address, wanted in modes.items():
        for name, value in wanted.items():
            text = f"power limit {value} W" if name == "power_limit_w" else f"ECC {_on(value)}"
            found.setdefault(text, []).append(address)
    for text, addresses in found.items():
        yield f"{text} ({', '.join(addresses)})"


def refusals(host: str, survey: Survey, settings: Settings) -> Iterator[Problem]:
    """Yield what is wished of GPUs that cannot do it; as long as NVML does not work nobody can tell."""
    for gpu in _gpus(survey):
        limit_w = _of_card(settings.gpu_power_limit_w, survey, gpu)
        where = f"{gpu.name} at {gpu.address}"
        if limit_w is not None and gpu.power_range_w is None:
            what = f"gpu_power_limit_w is {limit_w}, and {where} has no limit that can be set"
            yield Problem(code="gpu-power-limit", what=what, where=host, next_step="leave gpu_power_limit_w out for it")
        elif limit_w is not None and gpu.power_range_w and not _within(limit_w, gpu.power_range_w):
            least, most = gpu.power_range_w
            what = f"gpu_power_limit_w is {limit_w} W, and {where} takes {least} to {most} W"
            yield Problem(code="gpu-power-limit", what=what, where=host, next_step=f"choose {least} to {most}")
        if settings.gpu_ecc is not None and gpu.ecc is None:
            what = f"gpu_ecc is {settings.gpu_ecc}, and {where} has no ECC that can be switched"
            yield Problem(code="gpu-ecc", what=what, where=host, next_step="leave gpu_ecc out for this host")


def _within(value: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _gpus(survey: Survey) -> tuple[NvmlGpu, ...]:
    """Return the GPUs that can be asked."""
    return tuple(gpu for gpu in survey.nvml.gpus if not gpu.lost) if survey.nvml.state == "ok" else ()


def _of_card(wish: T | Mapping[str, T] | None, survey: Survey, gpu: NvmlGpu) -> T | None:
    """Return what a setting says of one GPU: by its address, else by the longest part of its name, else for all."""
    if not isinstance(wish, Mapping):
        return wish
    if gpu.address in wish:
        return wish[gpu.address]
    names = [gpu.name, *(each.card.name for each in inventory(survey).gpus if each.address == gpu.address)]
    fitting = [key for key in wish if any(key.casefold() in name.casefold() for name in names)]
    return wish[max(fitting, key=len)] if fitting else wish.get(ALL)


def _on(value: bool | None) -> str:
    return "on" if value else "off"
