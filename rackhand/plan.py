"""What one host should run and why, or why not: plain data that the planner makes and everything else reads."""

from dataclasses import dataclass
from typing import Any

from rackhand.catalog import DriverSet
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

    `settings` are all engine settings that are emitted, the sizes of the layout among them. `cpus` is a CPU list as
    systemd takes it ("0-15,32-47"), empty where nothing is pinned. `share` is the part of each GPU's memory where
    instances share devices; `starts_after` names the instance that must be ready first. `hosts` has one entry: an
    instance over several hosts is a later step.
    """

    name: str
    port: int
    gpus: tuple[int, ...]
    max_model_len: int | None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    settings: tuple[Setting, ...] = ()
    forecast: Forecast | None = None
    cpus: str = ""
    numa_nodes: tuple[int, ...] = ()
    share: float | None = None
    starts_after: str | None = None
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedGpu:
    """One GPU to use; `uuid` is empty until NVML could be asked."""

    address: str
    card: str
    memory_mib: int
    uuid: str = ""


@dataclass(frozen=True, kw_only=True)
class DriverPlan:
    """The driver that the host should have; `packages` is None where the driver is only verified."""

    version: str
    packages: DriverSet | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that will be made true on one host; `words` says it to a person."""

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

    def uuids(self, instance: Instance) -> tuple[str, ...]:
        return tuple(self.gpus[position].uuid for position in instance.gpus)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a host gets no plan: every reason at once."""

    host: str
    cards: str
    reasons: tuple[Problem, ...]
