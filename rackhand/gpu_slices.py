"""How cards are to be cut by MIG, and what stands against it. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from rackhand.gpu_cards import of_card
from rackhand.gpu_facts import MigProfile, MigSlice, NvmlGpu
from rackhand.outcome import Problem
from rackhand.seen import OURS
from rackhand.settings import Settings
from rackhand.survey import Survey

OFF = "off"


def wished(survey: Survey, settings: Settings, gpu: NvmlGpu) -> list[str] | None:
    """Return the sorted profiles that a card is to be cut into, none of them for MIG off; None where nobody cares."""
    wish = of_card(settings.gpu_mig, survey, gpu)
    return None if wish is None else [] if wish == OFF else sorted(wish)


def present(gpu: NvmlGpu) -> list[str] | None:
    """Return the sorted profiles of a card's slices; None where MIG is on and there are none."""
    profiles = sorted(each.profile for each in gpu.slices)
    return profiles if profiles or not gpu.mig else None


def waits(gpu: NvmlGpu, profiles: Sequence[str] | None) -> bool:
    """Tell whether a card goes over to MIG, or leaves it, at its next reset."""
    return profiles is not None and gpu.mig != gpu.mig_pending == bool(profiles)


def as_wished(survey: Survey, settings: Settings) -> Survey:
    """Return the survey with its cards cut as wished, so that the plan is for what there will be."""
    gpus = tuple(_cut(gpu, wished(survey, settings, gpu)) for gpu in survey.nvml.gpus)
    return survey.model_copy(update={"nvml": survey.nvml.model_copy(update={"gpus": gpus})})


def _cut(gpu: NvmlGpu, profiles: Sequence[str] | None) -> NvmlGpu:
    if gpu.lost or gpu.mig is None or profiles is None or present(gpu) == profiles:
        return gpu
    mib = {each.name: each.memory_mib for each in gpu.mig_profiles}
    slices = tuple(
        MigSlice(uuid="", profile=name, memory_mib=mib[name], free_mib=mib[name]) for name in profiles if name in mib
    )
    return gpu.model_copy(update={"mig": bool(profiles), "slices": slices})


def refusals(host: str, survey: Survey, settings: Settings, gpu: NvmlGpu) -> Iterator[Problem]:
    """Yield why a card cannot be cut as wished: it has no such slices, or somebody else computes on it."""
    profiles, where = wished(survey, settings, gpu), f"{gpu.name} at {gpu.address}"
    if profiles is None or present(gpu) == profiles:
        return
    if why := _impossible(gpu, profiles):
        what = f"gpu_mig wants {' + '.join(profiles)}, and {where} {why}"
        step = f"choose among {_offered(gpu)}" if gpu.mig_profiles else "leave gpu_mig out for it"
        yield Problem(code="gpu-mig", what=what, where=host, next_step=step)
        return
    for process in gpu.processes or ():
        if not process.unit.startswith(OURS):
            who = f"process {process.pid}{f' ({process.unit})' if process.unit else ''}"
            what = f"gpu_mig changes how {where} is cut, and {who} computes on it"
            yield Problem(code="gpu-mig", what=what, where=host, next_step="end that process, then run again")


def _impossible(gpu: NvmlGpu, profiles: Sequence[str]) -> str:
    """Say why a card does not hold these slices at once, as far as counting tells; empty where it may."""
    known = {each.name: each for each in gpu.mig_profiles}
    if not profiles:
        return ""
    if gpu.mig is None or not known:
        return "has no MIG"
    if unknown := [name for name in dict.fromkeys(profiles) if name not in known]:
        return f"has no {', '.join(unknown)}"
    for name, count in Counter(profiles).items():
        if count > known[name].most:
            return f"holds {name} at most {known[name].most} times"
    return _too_much(known.values(), [known[name] for name in profiles])


def _too_much(known: Collection[MigProfile], chosen: Sequence[MigProfile]) -> str:
    slices, most = sum(each.slices for each in chosen), max(each.slices for each in known)
    mib, room = sum(each.memory_mib for each in chosen), max(each.memory_mib for each in known)
    if slices > most:
        return f"has {most} compute slices, not {slices}"
    return f"has {room:,} MiB for slices, not {mib:,}" if mib > room else ""


def _offered(gpu: NvmlGpu) -> str:
    return ", ".join(f"{each.name} (up to {each.most})" for each in gpu.mig_profiles)
