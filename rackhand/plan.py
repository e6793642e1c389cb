"""What one host should run and why, or why not: plain data that the planner makes and everything else reads."""

from dataclasses import dataclass
from typing import Any

from rackhand.catalog import DriverSet
from rackhand.fitting.known import Basis
from rackhand.fitting.terms import Forecast
from rackhand.outcome import Problem


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One engine setting that differs from vLLM's default, and why; `name` as vLLM writes it (`max-model-len`).

    `origin` is `user` (serve_options or another setting of theirs), `preset`, `hardware`, `layout` or `fit`.
    """

    name: str
    value: Any
    reason: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One vLLM server; `gpus` are positions in the plan's list of GPUs, in rank order.

    `settings` are all engine settings that are emitted, the sizes of the layout among them; `basis` is what the
    `forecast` was made for. `cpus` is a CPU list as systemd takes it ("0-15,32-47"), empty where nothing is pinned.
    `share` is the part of each GPU's memory where instances share devices; `starts_after` names the instance that must
    be ready first. `hosts` has one entry: an instance over several hosts is a later step.
    """

    name: str
    port: int
    gpus: tuple[int, ...]
    max_model_len: int | None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    settings: tuple[Setting, ...] = ()
    forecast: Forecast | None = None
    basis: Basis | None = None
    cpus: str = ""
    numa_nodes: tuple[int, ...] = ()
    share: float | None = None
    starts_after: str | None = None
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedGpu:
    """One GPU to use, a card or a MIG slice of one; what only NVML knows has its default until NVML could be asked.

    `memory_mib` counts the driver's own `reserved_mib`. `free_mib` is set where processes that are not ours hold
    memory, and counts what ours would give back. `numa_node` is -1 where the host does not say; `cpus` is that node's
    CPU list, empty where the host has one node. `peers` are the addresses that NVLink joins directly, None when not
    known; `switched` says that NVSwitches join it with all other switched GPUs. `profile` is a slice's (3g.71gb); `mig`
    is also true for a card on which MIG is on and that has no slice.
    """

    address: str
    card: str
    memory_mib: int
    uuid: str = ""
    capability: tuple[int, int] = (0, 0)
    reserved_mib: int = 0
    free_mib: int | None = None
    numa_node: int = -1
    cpus: str = ""
    peers: tuple[str, ...] | None = None
    switched: bool = False
    mig: bool = False
    profile: str = ""


@dataclass(frozen=True, kw_only=True)
class DriverPlan:
    """The driver that the host should have, and what it takes to get there; `words` say it to a person.

    `packages` is None where the driver is only verified, or `stored`: then the host has all packages of that version.
    `headers` are what a module is built against, or ready-built modules of the kernels, installed as far as they are on
    offer. `needs` are packages that a stored set must have to be this driver, empty where any set of the version is.
    `removes` are installed packages that the planned ones replace, `stops` the servers of ours that stop meanwhile.
    """

    version: str
    packages: DriverSet | None
    stored: bool = False
    headers: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def managed(self) -> bool:
        """Tell whether the host is given this driver."""
        return self.packages is not None or self.stored


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that will be made true on one host; `words` says it to a person.

    `reasons` say why the instances are as they are, `left_out` which GPUs serve nothing and what else could be had.
    """

    host: str
    gpus: tuple[PlannedGpu, ...]
    cards: str
    driver: DriverPlan
    engine_version: str
    venv: str
    model: str
    instances: tuple[Instance, ...]
    start_timeout_s: int
    words: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def instance(self, name: str) -> Instance:
        return next(item for item in self.instances if item.name == name)

    def uuids(self, instance: Instance) -> tuple[str, ...]:
        return tuple(self.gpus[position].uuid for position in instance.gpus)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a host gets no plan: every reason at once."""

    host: str
    cards: str
    reasons: tuple[Problem, ...]
