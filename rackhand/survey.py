"""What a host said about itself, as frozen and validated data (the answer of rackhand.remote.survey)."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from typing_extensions import override

from rackhand.driver.ground import Ground
from rackhand.driver.sets import DriverSets
from rackhand.fitting.known import Measurement, readable
from rackhand.frozen import Frozen, validated
from rackhand.gpu_facts import Nvml, SetupFacts
from rackhand.lease import Lease, OpenOrder
from rackhand.shelf import Shelved


class HostFacts(Frozen):
    """The operating system of a host."""

    hostname: str
    distribution: str
    version: str
    pretty: str
    kernel: str
    architecture: str
    python: str
    glibc: str
    boot_id: str
    systemd: bool
    secure_boot: bool | None


class NumaNode(Frozen):
    """One NUMA node with CPUs; `cpus` as the kernel writes a list, `0-31,64-95`."""

    node: int
    cpus: str
    memory_mib: int


class Resources(Frozen):
    """Space and memory, all in MiB."""

    disk_free_mib: int
    disk_total_mib: int
    memory_mib: int
    shm_mib: int


class PciFunction(Frozen):
    """One NVIDIA function on the PCI bus; ids as sysfs writes them, `0x10de`."""

    address: str
    vendor: str
    device: str
    device_class: str
    subsystem_vendor: str
    subsystem_device: str
    driver: str
    numa_node: int


PROPRIETARY = "proprietary"


class DriverFacts(Frozen):
    """The loaded kernel module against the installed library; None means absent."""

    loaded: str | None
    flavour: str
    library: str | None
    nouveau: bool
    runfile: bool

    @property
    def ready(self) -> bool:
        return self.loaded is not None and self.loaded == self.library

    @property
    def open_ready(self) -> bool:
        """Say whether that module is the open one, the only one that rackhand installs."""
        return self.ready and self.flavour != PROPRIETARY


class Packages(Frozen):
    """Installed versions of the packages that were asked about; everything on hold; what dpkg left unfinished."""

    installed: dict[str, str]
    held: tuple[str, ...]
    unfinished: tuple[str, ...] = ()


class Listener(Frozen):
    """Who listens on a TCP port."""

    port: int
    pid: int
    command: str
    unit: str

    @override
    def __str__(self) -> str:
        return f"{self.command or 'an unknown process'} (pid {self.pid}{', ' + self.unit if self.unit else ''})"


class LockHolder(Frozen):
    """Who holds apt's lock."""

    path: str
    pid: int
    command: str
    unit: str


class UnitFacts(Frozen):
    """One vllm@ unit; `running_config` is the configuration digest that its process was started with.

    `owed` says that its files had been changed by hand, so that nobody knows what its process was started with.
    """

    name: str
    active: str
    sub: str
    enabled: bool
    restarts: int
    result: str
    pid: int
    running_config: str
    owed: bool = False


class ModelFile(Frozen):
    """One file of the weights."""

    path: str
    size: int
    sha256: str


class ModelRecord(Frozen):
    """What lies under models/; empty `files` means that nothing complete is there."""

    source: str = ""
    bytes: int = 0
    files: tuple[ModelFile, ...] = ()


class VenvRecord(Frozen):
    """The record of a complete environment; an empty digest means that there is none."""

    digest: str = ""
    vllm: str = ""


class ProgramFacts(Frozen):
    """The host's own program: its digest, empty without one, and the digests of the unit files that belong to it."""

    digest: str = ""
    units: dict[str, str] = Field(default_factory=dict)


class StateFacts(Frozen):
    """What rackhand left on the host; `releases` maps each id to the digest of what now lies in it.

    `drop_ins` maps instances to the digest of what their unit has that the others' have not, `measured` is what engines
    of these releases reported at their start, the newest first. `now` is the host's clock, in seconds since the epoch.
    `in_service` names the instances that answer and take requests; None where nobody asked them.
    """

    current: str
    previous: str
    releases: dict[str, str]
    venv: VenvRecord
    model: ModelRecord
    model_intact: bool
    uv: bool
    user: bool
    unit_sha256: str
    drop_ins: dict[str, str] = Field(default_factory=dict)
    instances: tuple[UnitFacts, ...]
    in_service: tuple[str, ...] | None = None
    measured: Annotated[tuple[Measurement, ...], BeforeValidator(readable)] = ()
    lease: Lease | None = None
    order: OpenOrder | None = None
    program: ProgramFacts = ProgramFacts()
    now: float = 0.0


class Survey(Frozen):
    """Everything that is known about a host at one moment."""

    host: HostFacts
    resources: Resources
    pci: tuple[PciFunction, ...]
    nodes: tuple[NumaNode, ...] = ()
    driver: DriverFacts
    packages: Packages
    ground: Ground = Ground()
    driver_sets: DriverSets = DriverSets()
    nvml: Nvml
    setup: SetupFacts = SetupFacts()
    listeners: tuple[Listener, ...]
    apt_lock: Annotated[LockHolder | None, BeforeValidator(lambda value: value or None)]
    state: StateFacts
    shelf: tuple[Shelved, ...] = ()


def parse(answer: Any, where: str) -> Survey:
    """Validate a host's answer; raises RackhandError `facts` when it makes no sense."""
    return validated(Survey, answer, where)
