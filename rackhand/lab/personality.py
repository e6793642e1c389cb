"""What a practice host pretends to be: its GPUs, its switches, and what is wrong with them.

One personality is one file personalities/<name>.yaml; the parts that it names are described in parts.yaml.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from rackhand.errors import RackhandError
from rackhand.lab.mig import MigProfile, MigSlice, Strict

HERE = Path(__file__).parent
NVIDIA = 0x10DE
AUDIO_CLASS = 0x040300
# The open kernel module drives Turing and newer (README of NVIDIA's open-gpu-kernel-modules).
OLDEST_OPEN_CAPABILITY = (7, 5)


@dataclass(frozen=True, kw_only=True)
class PciFunction(Strict):
    """One PCI function; `address` is domain:bus:device.function, `class_code` has 24 bits."""

    address: str
    vendor: int
    device: int
    subsystem_vendor: int
    subsystem_device: int
    class_code: int
    revision: int
    numa_node: int = 0
    pcie_generation: int = 1
    pcie_width: int = 1


@dataclass(frozen=True, kw_only=True)
class GpuModel(Strict):
    """What every card of one product has in common; enumerations are those of nvml.h."""

    nvml_name: str
    device: int
    subsystem_device: int
    revision: int
    brand: int
    architecture: int
    compute_capability: tuple[int, int]
    memory_mib: int
    reserved_memory_mib: int
    pcie_generation: int
    power_limit_mw: int
    power_limit_min_mw: int
    power_limit_max_mw: int | None = None
    class_code: int = 0x030200
    pcie_width: int = 16
    audio_device: int | None = None
    nvlinks: int = 0
    nvlink_version: int = 0
    fabric: bool = False
    ecc: bool = False
    row_remapping: bool = False
    serial: bool = False
    mig_slices_max: int = 0
    mig_profiles: tuple[MigProfile, ...] = ()
    peer_to_peer: bool = False


@dataclass(frozen=True, kw_only=True)
class Process(Strict):
    """A process that NVML reports on a GPU without it being a real one."""

    pid: int
    used_memory_mib: int
    graphics: bool = False


@dataclass(frozen=True, kw_only=True)
class Ailments(Strict):
    """What ails a card that answers: `recovery` and the bits of `clock_events` are NVML's numbers.

    `no_reset` is a card that only a boot resets, as in a virtual machine.
    """

    remap_pending: bool = False
    remap_failed: bool = False
    retired_pending: bool = False
    ecc_uncorrected: int = 0
    sram_exceeded: bool = False
    recovery: int = 0
    clock_events: int = 0
    reset_required: bool = False
    no_reset: bool = False


@dataclass(frozen=True, kw_only=True)
class Gpu(Strict):
    """One card in one slot; the last five fields say what is wrong with it.

    `peers` are the addresses of cards that NVLink bridges join it with; without, its active links lead to NVSwitches.
    """

    model: GpuModel
    address: str
    numa_node: int = 0
    peers: tuple[str, ...] = ()
    slices: tuple[MigSlice, ...] = ()
    nvlinks_active: int | None = None
    pcie_width: int | None = None
    processes: tuple[Process, ...] = ()
    on_bus: bool = True
    in_nvml: bool = True
    lost: bool = False
    ails: Ailments = Ailments()

    @property
    def visible(self) -> bool:
        """Tell whether NVML lists the card under the open kernel module."""
        return self.on_bus and self.in_nvml and self.model.compute_capability >= OLDEST_OPEN_CAPABILITY

    @property
    def functions(self) -> tuple[PciFunction, ...]:
        """Return the card's PCI functions: the GPU and, on GeForce, its HDMI audio."""
        model = self.model
        gpu = PciFunction(
            address=self.address,
            vendor=NVIDIA,
            device=model.device,
            subsystem_vendor=NVIDIA,
            subsystem_device=model.subsystem_device,
            class_code=model.class_code,
            revision=model.revision,
            numa_node=self.numa_node,
            pcie_generation=model.pcie_generation,
            pcie_width=self.pcie_width or model.pcie_width,
        )
        if model.audio_device is None:
            return (gpu,)
        address = self.address[:-1] + "1"
        return (gpu, replace(gpu, address=address, device=model.audio_device, class_code=AUDIO_CLASS))

    def uuid(self, host_name: str) -> str:
        """Return the UUID of the card in this slot of `host_name`: stable, and different on every host."""
        return f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{host_name}/{self.address}/{self.model.nvml_name}')}"

    def slice_uuid(self, host_name: str, index: int) -> str:
        """Return the UUID of MIG device `index` of this card."""
        return f"MIG-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{self.uuid(host_name)}/{index}')}"


@dataclass(frozen=True, kw_only=True)
class Personality(Strict):
    """A machine's hardware; the `with_…` methods return it with one thing wrong."""

    name: str
    summary: str
    gpus: tuple[Gpu, ...] = ()
    nvswitches: tuple[PciFunction, ...] = ()
    board: tuple[PciFunction, ...] = ()
    nvml_init_error: int = 0

    @property
    def functions(self) -> tuple[PciFunction, ...]:
        """Return everything on the PCI bus, by address."""
        cards = [function for gpu in self.gpus if gpu.on_bus for function in gpu.functions]
        return tuple(sorted((*self.board, *self.nvswitches, *cards), key=lambda function: function.address))

    @property
    def needs_fabric(self) -> bool:
        """Tell whether CUDA waits for the fabric manager."""
        return bool(self.nvswitches)

    def with_gpu(self, slot: int, **changes: Any) -> "Personality":
        """Return the machine with fields of the card in `slot` changed: lost=True, in_nvml=False, on_bus=False, …"""
        gpus = tuple(replace(gpu, **changes) if index == slot else gpu for index, gpu in enumerate(self.gpus))
        return replace(self, gpus=gpus)

    def with_model(self, slot: int, model: str) -> "Personality":
        """Return the machine with another product of parts.yaml in `slot`."""
        raw = {"name": self.name, "summary": "", "gpus": [{"model": model, "address": self.gpus[slot].address}]}
        return self.with_gpu(slot, model=_checked(raw, f"with_model({model!r})").gpus[0].model)

    def with_fewer_gpus(self, count: int) -> "Personality":
        """Return the machine with only the first `count` cards in their slots."""
        return replace(self, gpus=self.gpus[:count])

    def with_init_error(self, code: int) -> "Personality":
        """Return the machine on which nvmlInit answers `code` whatever the driver."""
        return replace(self, nvml_init_error=code)


def names() -> tuple[str, ...]:
    """Return the names of the personalities that ship."""
    return tuple(sorted(path.stem for path in (HERE / "personalities").glob("*.yaml")))


def load(name: str) -> Personality:
    """Return the personality `name`; raise lab.personality for an unknown name, field, part or value."""
    path = HERE / "personalities" / f"{name}.yaml"
    if name not in names():
        raise _wrong(f"no personality {name!r}", "practice fleet", f"choose one of: {', '.join(names())}")
    return _checked({"name": name, **yaml.safe_load(path.read_text())}, str(path))


@cache
def _parts() -> Mapping[str, Any]:
    parts: dict[str, Any] = yaml.safe_load((HERE / "parts.yaml").read_text())
    return parts


def _part(kind: str, model: object, where: str) -> Mapping[str, Any]:
    known: Mapping[Any, Mapping[str, Any]] = _parts()[kind]
    if model not in known:
        raise _wrong(f"no model {model!r} among {kind}", where, f"choose one of: {', '.join(known)}")
    return known[model]


def _checked(raw: Mapping[str, Any], where: str) -> Personality:
    switches = [
        {**_part("nvswitches", each.get("model"), where), "address": each.get("address")}
        for each in raw.get("nvswitches", ())
    ]
    gpus = [{**gpu, "model": _part("gpus", gpu.get("model"), where)} for gpu in raw.get("gpus", ())]
    try:
        return TypeAdapter(Personality).validate_python(
            {**raw, "gpus": gpus, "nvswitches": switches, "board": _parts()["board"]}
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _wrong(f"{key}: {first['msg']}", where, "correct this key") from None


def _wrong(what: str, where: str, next_step: str) -> RackhandError:
    return RackhandError("lab.personality", what, where, next_step)
