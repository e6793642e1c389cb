"""Which GPUs a host has, identified on the PCI bus: no driver is needed for that."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from rackhand import catalog
from rackhand.catalog import Platform
from rackhand.catalog.gpus import CardRow, Fabric, FallbackRange, Generation, Module

NVIDIA = 0x10DE
TIMES = "\N{MULTIPLICATION SIGN}"
# PCI classes without their programming interface: VGA controller, 3D controller, other bridge.
GPU_CLASSES = (0x0300, 0x0302)
NVSWITCH_CLASS = 0x0680
# Drivers that hold a GPU for a virtual machine: the card is not ours to use.
PASS_THROUGH = ("vfio-pci", "pci-stub", "pciback", "xen-pciback")


@dataclass(frozen=True, kw_only=True)
class Card:
    """One product and what it asks of the driver.

    `memory_mib` is nominal, `cuda_mib` what CUDA reports as the whole memory; None where the id does not tell.
    """

    name: str
    architecture: str
    capability: tuple[int, int]
    memory_mib: int | None
    module: Module
    min_branch: str
    max_branch: str | None = None
    fabric: Fabric = Fabric.NONE
    cuda_mib: int | None = None


@dataclass(frozen=True, kw_only=True)
class PciDevice:
    """One PCI function as sysfs shows it; `driver` is empty and `numa_node` is -1 where there is none."""

    address: str
    vendor: int
    device: int
    device_class: int
    subsystem_vendor: int
    subsystem_device: int
    driver: str = ""
    numa_node: int = -1

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "PciDevice":
        """Take a device from JSON; numbers may be written as sysfs writes them (0x10de)."""
        numbers = ("vendor", "device", "device_class", "subsystem_vendor", "subsystem_device")
        return cls(
            address=str(raw["address"]),
            driver=str(raw["driver"]),
            numa_node=int(raw["numa_node"]),
            **{name: _number(raw[name]) for name in numbers},
        )


@dataclass(frozen=True, kw_only=True)
class IdentifiedGpu:
    """One GPU on the bus; `known` is False where only its generation could be told."""

    address: str
    card: Card
    device: PciDevice
    known: bool = True


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """A host's NVIDIA hardware in order of address; `foreign` are GPUs that are handed to virtual machines."""

    gpus: tuple[IdentifiedGpu, ...] = ()
    nvswitches: int = 0
    foreign: tuple[PciDevice, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def needs_fabric_manager(self) -> bool:
        """Tell whether CUDA waits for nvidia-fabricmanager; B200 and B300 boards hide their switches from the bus."""
        return self.platform in (Platform.NVSWITCH, Platform.NVLINK5)

    @property
    def platform(self) -> Platform:
        """Tell what joins the GPUs; a single card of a board joins nothing."""
        kinds = {gpu.card.fabric for gpu in self.gpus}
        if self.nvswitches:
            return Platform.NVSWITCH
        if Fabric.NVLINK5 in kinds and len(self.gpus) > 1:
            return Platform.NVLINK5
        return Platform.RACK if Fabric.RACK in kinds else Platform.CARDS

    def describe(self) -> str:
        return describe(gpu.card.name for gpu in self.gpus)


def identify(devices: Iterable[PciDevice]) -> Inventory:
    """Tell NVIDIA's GPUs and NVSwitches from everything else on the bus; an unknown id is a warning, never an error."""
    ours = sorted((device for device in devices if device.vendor == NVIDIA), key=lambda device: device.address)
    cards = [device for device in ours if device.device_class >> 8 in GPU_CLASSES]
    foreign = tuple(device for device in cards if device.driver in PASS_THROUGH)
    gpus = tuple(_identified(device) for device in cards if device not in foreign)
    book = catalog.gpu_book()
    switches = [
        device for device in ours if device.device_class >> 8 == NVSWITCH_CLASS and book.is_nvswitch(device.device)
    ]
    return Inventory(gpus=gpus, nvswitches=len(switches), foreign=foreign, warnings=_warnings(gpus, foreign))


def describe(names: Iterable[str]) -> str:
    """Count GPUs in words, the most frequent first."""
    counted = Counter(names).most_common()
    return ", ".join(f"{count}{TIMES} {name}" for name, count in counted) or "no GPU"


def _identified(device: PciDevice) -> IdentifiedGpu:
    card = _card(device.device, f"{device.subsystem_vendor:04x}:{device.subsystem_device:04x}")
    if card is not None:
        return IdentifiedGpu(address=device.address, card=card, device=device)
    book = catalog.gpu_book()
    fallback = book.fallback(device.device)
    card = _unknown(device, fallback, book.generations[fallback.generation])
    return IdentifiedGpu(address=device.address, card=card, device=device, known=False)


@cache
def _card(device: int, subsystem: str) -> Card | None:
    """Look a card up once for all hosts that have it."""
    row = catalog.gpu_book().card(device, subsystem)
    return card_of(row) if row is not None else None


def card_of(row: CardRow) -> Card:
    """Return a row of the catalogue with what its generation adds."""
    book = catalog.gpu_book()
    generation = book.generations[row.generation]
    return Card(
        name=row.name,
        architecture=generation.architecture,
        capability=row.capability,
        memory_mib=row.memory_mib,
        module=generation.module,
        min_branch=row.min_branch or generation.min_branch,
        max_branch=generation.max_branch,
        fabric=row.fabric,
        cuda_mib=book.cuda_mib(row),
    )


def cuda_total_mib(card: Card, nvml_total_mib: int | None = None, nvml_reserved_mib: int = 0) -> int | None:
    """Return what CUDA will report as a GPU's whole memory, in MiB; None for an unknown card without a driver.

    NVML's total counts what the driver keeps for itself and CUDA's does not: an H200 has 143,771 MiB for NVML, of which
    615 are reserved, and 143,155 for torch.cuda.mem_get_info. Where NVML answers, its numbers win over the catalogue's.
    """
    if nvml_total_mib is not None:
        return nvml_total_mib - nvml_reserved_mib
    return card.cuda_mib


def _unknown(device: PciDevice, fallback: FallbackRange, generation: Generation) -> Card:
    return Card(
        name=f"unknown NVIDIA GPU (10de:{device.device:04x})",
        architecture=f"{generation.architecture} or newer",
        capability=fallback.capability,
        memory_mib=None,
        module=generation.module,
        min_branch=generation.min_branch,
        max_branch=generation.max_branch,
    )


def _warnings(gpus: Sequence[IdentifiedGpu], foreign: Sequence[PciDevice]) -> tuple[str, ...]:
    unknown = [
        f"{gpu.address}: {gpu.card.name}, taken for {gpu.card.architecture}; add it to gpus.yaml"
        for gpu in gpus
        if not gpu.known
    ]
    return (*unknown, *(f"{device.address}: bound to {device.driver}, left alone" for device in foreign))


def _number(value: int | str) -> int:
    return value if isinstance(value, int) else int(value, 16)
