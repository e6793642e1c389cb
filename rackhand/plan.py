"""What one host should run and why, or why not: plain data that the planner makes and everything else reads."""

from dataclasses import dataclass

from rackhand.catalog import DriverSet
from rackhand.outcome import Problem


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One vLLM server; `gpus` are positions in the plan's list of GPUs."""

    name: str
    port: int
    gpus: tuple[int, ...]
    max_model_len: int | None


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
