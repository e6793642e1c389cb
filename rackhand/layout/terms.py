"""The words of the layout: what is wished of it, who is asked whether a model fits, and the answer. Plain data."""

from dataclasses import dataclass
from typing import Protocol

from rackhand.fitting.terms import Forecast
from rackhand.plan import Instance, PlannedGpu


@dataclass(frozen=True, kw_only=True)
class LayoutWish:
    """What the user asks of the layout; None is "choose".

    `name` and `port` are the first instance's: `name-0`, `name-1` … on `port`, `port + 1` …. `shares` are the parts of
    each GPU's memory (vLLM's gpu-memory-utilization) of the instances that share it, empty where GPUs are not shared.
    `mig` says that this vLLM serves MIG slices, `expert_parallel` that experts stay whole.
    """

    name: str
    port: int
    instances: int | None = None
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    shares: tuple[float, ...] = ()
    mig: bool = False
    expert_parallel: bool = False


class Assess(Protocol):
    """Forecast one rank's memory on a GPU; `share` replaces the usual gpu-memory-utilization where GPUs are shared."""

    def __call__(
        self,
        gpu: PlannedGpu,
        tensor_parallel_size: int,
        pipeline_parallel_size: int,
        share: float | None = None,
    ) -> Forecast: ...


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The instances by address of their first GPU, why they are as they are, and which GPUs serve nothing and why."""

    instances: tuple[Instance, ...]
    reasons: tuple[str, ...]
    left_out: tuple[str, ...] = ()
