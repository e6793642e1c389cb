"""The GPUs of a survey: identified on the PCI bus, completed by NVML where that works. Pure."""

from collections.abc import Set
from dataclasses import replace

from rackhand.gpu_facts import NvmlGpu
from rackhand.hardware import Card, Inventory, PciDevice, describe, identify
from rackhand.plan import PlannedGpu
from rackhand.survey import Survey

UNKNOWN_MIB = 0
OURS = "vllm@"
# What an idle card holds for itself: seen between 1 and some 100 MiB.
NOISE_MIB = 512


def inventory(survey: Survey) -> Inventory:
    """Identify what is on the PCI bus; needs no driver."""
    return identify(PciDevice.of(function.model_dump()) for function in survey.pci)


def gpus(survey: Survey) -> tuple[PlannedGpu, ...]:
    """List the GPUs by address, the slices of a card that is cut in its place.

    UUID, true memory and links come from NVML; before that memory is nominal or UNKNOWN_MIB.
    """
    nvml = {gpu.address: gpu for gpu in survey.nvml.gpus if not gpu.lost}
    bus = inventory(survey)
    cpus = {node.node: node.cpus for node in survey.nodes} if len(survey.nodes) > 1 else {}
    planned: list[PlannedGpu] = []
    for each in bus.gpus:
        node = each.device.numa_node
        before = PlannedGpu(
            address=each.address,
            card=each.card.name,
            memory_mib=each.card.memory_mib or UNKNOWN_MIB,
            reserved_mib=_kept_back_mib(each.card),
            capability=each.card.capability,
            numa_node=node,
            cpus=cpus.get(node, ""),
            switched=bus.needs_fabric_manager,
        )
        seen = nvml.get(each.address)
        planned += _completed(before, seen, {gpu.address for gpu in bus.gpus}) if seen else [before]
    return tuple(planned)


def _kept_back_mib(card: Card) -> int:
    """Return what CUDA will not see of the nominal memory."""
    return max(0, card.memory_mib - card.cuda_mib) if card.memory_mib and card.cuda_mib else 0


def _completed(before: PlannedGpu, seen: NvmlGpu, cards: Set[str]) -> list[PlannedGpu]:
    """Add what NVML says of a card; a link to an address that is no card's leads to a switch."""
    ends = seen.peers
    whole = replace(
        before,
        uuid=seen.uuid,
        memory_mib=seen.memory_mib,
        reserved_mib=seen.reserved_mib,
        free_mib=_free_mib(seen),
        capability=seen.capability,
        peers=None if ends is None else tuple(end for end in ends if end in cards),
        switched=before.switched if ends is None else seen.switched or any(end not in cards for end in ends),
        mig=bool(seen.mig),
    )
    slices = [
        replace(whole, uuid=each.uuid, profile=each.profile, memory_mib=each.memory_mib, reserved_mib=0, free_mib=None)
        for each in seen.slices
    ]
    return slices or [whole]


def _free_mib(seen: NvmlGpu) -> int | None:
    """Return what would be free without our instances, None where nobody else holds any worth naming."""
    if seen.processes is None:
        return None
    held = [process.mib for process in seen.processes if process.unit.startswith(OURS)]
    if None in held:
        return None  # what others hold cannot be told from what we do
    ours = sum(mib for mib in held if mib is not None)
    usable = seen.memory_mib - seen.reserved_mib
    others = usable - seen.free_mib - ours
    return usable - others if others > NOISE_MIB else None


def held_mib(gpu: PlannedGpu) -> int:
    """Return what others hold of a GPU."""
    return 0 if gpu.free_mib is None else gpu.memory_mib - gpu.reserved_mib - gpu.free_mib


def serving(survey: Survey) -> frozenset[str]:
    """Return the addresses of the GPUs on which engines of ours run."""
    return frozenset(
        gpu.address for gpu in survey.nvml.gpus if any(process.unit.startswith(OURS) for process in gpu.processes or ())
    )


def cards(found: tuple[PlannedGpu, ...]) -> str:
    """Count the cards in words; one that is cut into slices is one."""
    return describe({gpu.address: gpu.card for gpu in found}.values())


def has_fabric(survey: Survey) -> bool:
    """Tell whether the host needs NVIDIA's fabric manager."""
    return inventory(survey).needs_fabric_manager
