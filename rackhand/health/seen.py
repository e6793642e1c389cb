"""What a host said about the health of its GPUs, as frozen and validated data (the answer of remote.health)."""

from typing import Any

from pydantic import Field

from rackhand.frozen import Frozen, validated
from rackhand.survey import DriverFacts, PciFunction


class HostSeen(Frozen):
    """The operating system; `uptime_s` in seconds."""

    hostname: str
    kernel: str
    uptime_s: float


class NodeSeen(Frozen):
    """One device node below /dev; `open` says that everybody may read and write it."""

    name: str
    open: bool
    device: bool


class Rows(Frozen):
    """Rows of memory that were remapped, and whether one waits for a reset or could not be remapped."""

    correctable: int
    uncorrectable: int
    pending: bool
    failed: bool


class FabricSeen(Frozen):
    """What a GPU knows of its NVLink fabric, in NVML's numbers; `clique` names the fabric."""

    state: int
    status: int
    clique: str
    health: int


class PcieSeen(Frozen):
    """The link of a card now, and at best with this slot; `replays_later` is None where the counter was zero."""

    width: int
    max_width: int
    generation: int
    max_generation: int
    replays: int
    replays_later: int | None


class GpuSeen(Frozen):
    """One GPU; `state` is ok, missing, lost, reset-required or error, and then nothing else is known.

    What a card does not have is None. `failed` maps facts that could not be read to NVML's error number. Memory in MiB,
    power in W; the pairs are the mode now and the one that waits. `nvlinks` says of each link whether it is up.
    """

    address: str
    state: str
    detail: str = ""
    failed: dict[str, int] = Field(default_factory=dict)
    uuid: str = ""
    name: str = ""
    minor: int | None = None
    vbios: str | None = None
    memory_mib: int | None = None
    used_mib: int | None = None
    processes: int | None = None
    busy_percent: int | None = None
    remapped: Rows | None = None
    retired_pending: bool | None = None
    recovery: int | None = None
    ecc: tuple[int, int] | None = None
    ecc_uncorrected: int | None = None
    sram_threshold: bool | None = None
    mig: tuple[int, int] | None = None
    nvlinks: tuple[bool, ...] | None = None
    fabric: FabricSeen | None = None
    pcie: PcieSeen | None = None
    clock_events: int | None = None
    power_limit_w: int | None = None
    power_default_w: int | None = None
    temperature_c: int | None = None
    persistence: bool | None = None
    compute_mode: int | None = None


class NvmlSeen(Frozen):
    """NVML's answer; `state` as in rackhand.survey.Nvml."""

    state: str
    detail: str = ""
    driver: str = ""
    gpus: tuple[GpuSeen, ...] = ()


class CudaSeen(Frozen):
    """How CUDA's start went: `state` is ok, no-library, failed, hangs or crashed; `code` is CUDA's result."""

    state: str
    code: int = 0
    name: str = ""
    devices: int = 0
    detail: str = ""


class UnitSeen(Frozen):
    """One service of the driver."""

    name: str
    there: bool
    active: str
    ended: str


class EngineSeen(Frozen):
    """One instance and the UUIDs of its GPUs."""

    name: str
    gpus: tuple[str, ...]


class DcgmSeen(Frozen):
    """What DCGM's short test said; `answer` is its JSON, None where it gave none."""

    status: int | None
    detail: str
    answer: dict[str, Any] | None


class Seen(Frozen):
    """Everything at one moment; `kernel` are lines of the driver since boot, None where no log can be read."""

    now: float
    host: HostSeen
    pci: tuple[PciFunction, ...]
    driver: DriverFacts
    nodes: tuple[NodeSeen, ...]
    nvml: NvmlSeen
    cuda: CudaSeen
    kernel: tuple[str, ...] | None
    units: tuple[UnitSeen, ...]
    fabric_packages: dict[str, str]
    engines: tuple[EngineSeen, ...]
    dcgm: DcgmSeen | None

    @property
    def well(self) -> tuple[GpuSeen, ...]:
        """The GPUs that answer."""
        return tuple(gpu for gpu in self.nvml.gpus if gpu.state == "ok")

    def unit(self, name: str) -> UnitSeen:
        found = (unit for unit in self.units if unit.name == name)
        return next(found, UnitSeen(name=name, there=False, active="", ended=""))


def parse(answer: Any, where: str) -> Seen:
    """Validate a host's answer; raises RackhandError `facts` when it makes no sense."""
    return validated(Seen, answer, where)
