"""The GPUs of a survey: identified on the PCI bus, completed by NVML where that works. Pure."""

from rackhand.hardware import Inventory, PciDevice, describe, identify
from rackhand.plan import PlannedGpu
from rackhand.survey import Survey

UNKNOWN_MIB = 0


def inventory(survey: Survey) -> Inventory:
    """Identify what is on the PCI bus; needs no driver."""
    return identify(PciDevice.of(function.model_dump()) for function in survey.pci)


def gpus(survey: Survey) -> tuple[PlannedGpu, ...]:
    """List the GPUs by address; UUID and true memory come from NVML, before that memory is nominal or UNKNOWN_MIB."""
    nvml = {gpu.address: gpu for gpu in survey.nvml.gpus if not gpu.lost}
    planned = []
    for found in inventory(survey).gpus:
        seen = nvml.get(found.address)
        planned.append(
            PlannedGpu(
                address=found.address,
                card=found.card.name,
                memory_mib=seen.memory_mib if seen else (found.card.memory_mib or UNKNOWN_MIB),
                uuid=seen.uuid if seen else "",
                capability=seen.capability if seen else found.card.capability,
                reserved_mib=seen.reserved_mib if seen else 0,
            )
        )
    return tuple(planned)


def cards(found: tuple[PlannedGpu, ...]) -> str:
    """Count GPUs in words."""
    return describe(gpu.card for gpu in found)


def has_fabric(survey: Survey) -> bool:
    """Tell whether the host needs NVIDIA's fabric manager."""
    return inventory(survey).needs_fabric_manager
