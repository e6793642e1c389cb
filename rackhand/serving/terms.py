"""The words of serving: what is asked of one instance's engine, and what was chosen. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rackhand.catalog.serving import Preset
from rackhand.fitting.known import Basis, Known
from rackhand.fitting.terms import Device, Forecast, Serving
from rackhand.models.spec import ModelSpec
from rackhand.plan import Setting
from rackhand.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What the user wishes of the engine; None is "choose". `options` are vLLM's as the user gave them, with dashes."""

    version: str
    preset: Preset = Preset.BALANCED
    allow_fp8: bool = False
    allow_fp8_cache: bool = False
    max_model_len: int | Literal["auto"] | None = None
    gpu_memory_utilization: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)
    # What options are compared by: 1, 1.0 and True are equal in Python and three things to vLLM.
    text: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", repr(sorted(self.options.items())))

    @property
    def fits_context(self) -> bool:
        """Whether the context may be shortened to what the memory holds."""
        return self.max_model_len == "auto" or (self.max_model_len is None and self.preset is Preset.LONG_CONTEXT)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """How one instance is divided: its sizes, and the part of each GPU's memory where instances share GPUs."""

    tensor: int = 1
    pipeline: int = 1
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model on one kind of GPU, what is asked of it, and what instances of it reported before."""

    spec: ModelSpec
    device: Device
    ask: Ask
    ranks: Ranks = Ranks()
    known: Known = ()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The engine settings to emit, what they mean for memory, what else could be had, and what to be wary of."""

    settings: tuple[Setting, ...]
    basis: Basis
    forecast: Forecast
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def serving(self) -> Serving:
        """The settings that memory depends on, resolved."""
        return self.basis.serving


def ask_of(settings: Settings) -> Ask:
    """Take what concerns the engine out of one host's settings."""
    return Ask(
        version=settings.engine_version,
        preset=Preset(settings.serve_preset),
        allow_fp8=settings.serve_allow_fp8,
        allow_fp8_cache=settings.serve_allow_fp8_kv,
        max_model_len=settings.serve_max_model_len,
        gpu_memory_utilization=settings.serve_gpu_memory_utilization,
        options=settings.serve_options,
    )
