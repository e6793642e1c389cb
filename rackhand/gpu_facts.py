"""What a host said about its GPUs and what runs beside their driver, as frozen data (part of rackhand.survey)."""

from typing import Any

from pydantic import Field

from rackhand.frozen import Frozen


class GpuProcess(Frozen):
    """A process that computes on a GPU; `mib` is None where the driver does not tell, `unit` empty where none is."""

    pid: int
    mib: int | None = None
    unit: str = ""


class MigSlice(Frozen):
    """One MIG slice of a GPU; `profile` as NVIDIA names it (3g.71gb), memory in MiB."""

    uuid: str
    profile: str
    memory_mib: int
    free_mib: int


class MigProfile(Frozen):
    """A kind of slice that a card can be cut into: how many of its compute slices, how many at most, memory in MiB."""

    name: str
    slices: int
    most: int
    memory_mib: int


class NvmlGpu(Frozen):
    """One GPU as NVML sees it; memory in MiB, power in W. A lost GPU, also one that works no more before a
    reset, has nothing but its index and in `detail` what NVML said.

    `peers` are the PCI addresses at the other ends of its active NVLinks, None where the driver does not tell;
    `switched` says that NVSwitches are among them, which may have no address.
    """

    index: int
    lost: bool = False
    detail: str = ""
    uuid: str = ""
    name: str = ""
    address: str = ""
    memory_mib: int = 0
    reserved_mib: int = 0
    free_mib: int = 0
    capability: tuple[int, int] = (0, 0)
    mig: bool | None = None
    mig_pending: bool | None = None
    mig_profiles: tuple[MigProfile, ...] = ()
    persistence: bool | None = None
    ecc: bool | None = None
    ecc_pending: bool | None = None
    power_limit_w: int | None = None
    power_default_w: int | None = None
    power_range_w: tuple[int, int] | None = None
    nvlinks: int = 0
    switched: bool = False
    peers: tuple[str, ...] | None = None
    slices: tuple[MigSlice, ...] = ()
    processes: tuple[GpuProcess, ...] | None = None


class Nvml(Frozen):
    """NVML's answer: `state` is ok, no-library, not-loaded, mismatch, lost, no-permission, hangs, crashed or error."""

    state: str
    detail: str = ""
    driver: str = ""
    cuda: str = ""
    gpus: tuple[NvmlGpu, ...] = ()


class ServiceFacts(Frozen):
    """One unit beside the driver: installed, started at boot, running."""

    there: bool = False
    enabled: bool = False
    active: bool = False

    @property
    def wanted(self) -> bool:
        """Tell whether somebody wants it to run: it does, or will after a boot."""
        return self.there and (self.enabled or self.active)


class SetupFacts(Frozen):
    """What runs beside the driver: units without their ending, and the kernel modules that boots load, in order.

    `persistence` says that the persistence daemon's unit asks for persistence mode, `kept` what is set at each boot of
    each GPU by its PCI address (rackhand.gpu_modes).
    """

    services: dict[str, ServiceFacts] = Field(default_factory=dict)
    persistence: bool = False
    modules: tuple[str, ...] = ()
    kept: dict[str, dict[str, Any]] = Field(default_factory=dict)
