"""What GPUs are set to where that is wished: power limit, ECC, MIG. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackhand import gpu_slices
from rackhand.gpu_cards import able, of_card
from rackhand.gpu_facts import NvmlGpu
from rackhand.outcome import Problem
from rackhand.settings import Settings
from rackhand.survey import Survey

Modes = Mapping[str, Mapping[str, Any]]


def wished(survey: Survey, settings: Settings) -> Modes:
    """Return what is wished of each GPU by its PCI address: `power_limit_w` in W, `ecc`, `mig` as sorted profiles.

    A limit of ours that is no longer wished goes back to the card's own.
    """
    return {gpu.address: modes for gpu in able(survey) if (modes := dict(_wished(gpu, survey, settings)))}


def _wished(gpu: NvmlGpu, survey: Survey, settings: Settings) -> Iterator[tuple[str, Any]]:
    limit_w = of_card(settings.gpu_power_limit_w, survey, gpu)
    if limit_w is None and "power_limit_w" in survey.setup.kept.get(gpu.address, {}):
        limit_w = gpu.power_default_w
    if limit_w is not None:
        yield "power_limit_w", limit_w
    if settings.gpu_ecc is not None:
        yield "ecc", settings.gpu_ecc
    profiles = gpu_slices.wished(survey, settings, gpu)
    if profiles is not None and gpu.mig is not None:
        yield "mig", profiles


def kept(survey: Survey, settings: Settings) -> Modes:
    """Return what the host sets again at each boot: what is wished and a GPU forgets."""
    return {gpu.address: modes for gpu in able(survey) if (modes := dict(_kept(gpu, survey, settings)))}


def _kept(gpu: NvmlGpu, survey: Survey, settings: Settings) -> Iterator[tuple[str, Any]]:
    limit_w = of_card(settings.gpu_power_limit_w, survey, gpu)
    if limit_w is not None:
        yield "power_limit_w", limit_w
    # No card keeps its slices, Hopper and newer not even MIG itself.
    if profiles := gpu_slices.wished(survey, settings, gpu):
        yield "mig", profiles


def differing(survey: Survey, modes: Modes) -> Modes:
    """Return those of `modes` that are not so; what is so after the next reset counts as done."""
    found = {}
    for gpu in able(survey):
        now = {"power_limit_w": gpu.power_limit_w, "ecc": gpu.ecc_pending, "mig": gpu_slices.present(gpu)}
        other = {name: value for name, value in modes.get(gpu.address, {}).items() if now[name] != value}
        if gpu_slices.waits(gpu, other.get("mig")):
            del other["mig"]
        if other:
            found[gpu.address] = other
    return found


def pending(survey: Survey, modes: Modes) -> tuple[str, ...]:
    """Say which GPUs will be as wished after a reset and are not yet, in words."""
    found: dict[str, dict[str, Any]] = {}
    for gpu in able(survey):
        wanted = modes.get(gpu.address, {})
        if "ecc" in wanted and gpu.ecc != gpu.ecc_pending == wanted["ecc"]:
            found.setdefault(gpu.address, {})["ecc"] = wanted["ecc"]
        if gpu_slices.waits(gpu, wanted.get("mig")):
            found.setdefault(gpu.address, {})["mig"] = wanted["mig"]
    return tuple(words(found))


def disturbing(survey: Survey, modes: Modes) -> bool:
    """Tell whether nobody may compute on the GPUs while they are set."""
    return any("mig" in wanted for wanted in differing(survey, modes).values())


def resetting(survey: Survey, modes: Modes) -> bool:
    """Tell whether setting the GPUs is known to take a reset; that MIG takes one on a card shows when it is set."""
    return any("ecc" in wanted for wanted in differing(survey, modes).values())


def words(modes: Modes) -> Iterator[str]:
    """Say modes in words, those of equal GPUs together."""
    found: dict[str, list[str]] = {}
    for address, wanted in modes.items():
        for name, value in wanted.items():
            found.setdefault(_words(name, value), []).append(address)
    for text, addresses in found.items():
        yield f"{text} ({', '.join(addresses)})"


def _words(name: str, value: Any) -> str:
    if name == "power_limit_w":
        return f"power limit {value} W"
    if name == "ecc":
        return f"ECC {_on(value)}"
    return f"MIG {' + '.join(value)}" if value else "MIG off"


def refusals(host: str, survey: Survey, settings: Settings) -> Iterator[Problem]:
    """Yield what is wished of GPUs that cannot do it; as long as NVML does not work nobody can tell."""
    for gpu in able(survey):
        limit_w = of_card(settings.gpu_power_limit_w, survey, gpu)
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
        yield from gpu_slices.refusals(host, survey, settings, gpu)


def _within(value: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _on(value: bool | None) -> str:
    return "on" if value else "off"
