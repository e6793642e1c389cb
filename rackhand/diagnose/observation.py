"""What was seen of one running engine, all of it optional: rules judge what is there and leave out the rest."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rackhand.catalog.signals import Told, slow_backend, told
from rackhand.diagnose.metrics import Traffic
from rackhand.fitting.terms import Forecast

AMPERE = (8, 0)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The systemd unit of the engine."""

    active: str
    enabled: bool
    restarts: int


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What the gate said; `failure` is empty when the engine passed."""

    failure: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A result of `vllm bench serve`; times in milliseconds, throughput in tokens per second."""

    completed: int
    median_tpot_ms: float | None
    median_ttft_ms: float | None
    output_tok_s: float | None


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Everything that was seen; None and empty mean "not looked at".

    `settings` are the engine's options by vLLM's dashed names. `utilisation` holds samples of the GPUs in percent,
    `client_threads` and `client_context` what the program in front of the engine uses (its connections, its tokens).
    `kernel` are lines of the kernel's log.
    """

    where: str
    settings: Mapping[str, Any] | None = None
    traffic: Traffic | None = None
    utilisation: tuple[float, ...] = ()
    journal: tuple[str, ...] = ()
    kernel: tuple[str, ...] = ()
    unit: Unit | None = None
    gate: Gate | None = None
    bench: Bench | None = None
    forecast: Forecast | None = None
    served_context: int | None = None
    client_context: int | None = None
    client_threads: int | None = None
    capability: tuple[int, int] | None = None

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """The engine's options: from the given settings, else as the engine wrote them into its journal."""
        return self.settings if self.settings is not None else _written(told(Told.OPTIONS, self.journal))

    @property
    def options_known(self) -> bool:
        return self.settings is not None or told(Told.OPTIONS, self.journal) is not None

    def number(self, option: str) -> float | None:
        """Return an option's value where it is a number."""
        try:
            return float(self.options[option])
        except (KeyError, TypeError, ValueError):
            return None

    def flag(self, option: str) -> bool | None:
        """Return a flag that was set or unset (`no-NAME`, `disable-…`); None when it is not among the options."""
        bare = option.removeprefix("enable-")
        for name, on in ((option, True), (f"no-{option}", False), (f"disable-{bare}", False)):
            if name in self.options:
                return (str(self.options[name]).lower() != "false") is on
        return None

    @cached_property
    def backend(self) -> str | None:
        return told(Told.BACKEND, self.journal)

    @cached_property
    def quantization(self) -> str | None:
        """The quantisation's name, empty for a model that is not quantised; None when nothing tells."""
        name = told(Told.QUANTIZATION, self.journal) or self.options.get("quantization")
        return None if name is None else "" if str(name) == "None" else str(name)

    @cached_property
    def prefix_caching(self) -> bool | None:
        """What the engine says it does (metrics, then journal), else what the settings say."""
        cache = self.traffic.cache if self.traffic else {}
        said = cache.get("enable_prefix_caching") or told(Told.PREFIX_CACHING, self.journal)
        return said == "True" if said else self.flag("enable-prefix-caching")

    @property
    def planned_context(self) -> int | None:
        context = self.number("max-model-len")
        return None if context is None or context <= 0 else int(context)

    @property
    def context(self) -> int | None:
        """The context that is served: as the API says, as the journal says, as the settings say."""
        said = told(Told.CONTEXT, self.journal)
        return self.served_context or (int(said) if said else None) or self.planned_context

    @cached_property
    def sequences(self) -> float | None:
        """How many sequences of full context fit the KV cache at once: as the engine says, else as it was forecast."""
        said = (self.traffic.cache if self.traffic else {}).get("kv_cache_max_concurrency")
        try:
            return float(said) if said else self.forecast.sequences if self.forecast else None
        except ValueError:
            return None

    @property
    def queued(self) -> bool:
        """Whether requests waited at every look."""
        return self.traffic is not None and min(self.traffic.waiting, default=0.0) > 0

    @property
    def loaded(self) -> bool:
        """Whether utilisation may be judged: a queue, or a benchmark."""
        return self.queued or self.bench is not None

    @property
    def slow_attention(self) -> bool:
        """Whether the card has a faster attention kernel than the one in use; a card that is not known is an Ampere."""
        return self.backend is not None and slow_backend(self.backend, self.capability or AMPERE)

    @property
    def busy(self) -> float | None:
        """Mean utilisation of the GPU in percent."""
        return mean(self.utilisation)


def mean(values: tuple[float, ...]) -> float | None:
    """Return the mean; None of nothing."""
    return sum(values) / len(values) if values else None


def options(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under vLLM's dashed names, however they were written."""
    return {str(name).replace("_", "-"): value for name, value in raw.items()}


def _written(text: str | None) -> dict[str, Any]:
    """Read the line in which vLLM lists its options, a Python dictionary; objects in it make it unreadable."""
    try:
        raw = ast.literal_eval(text) if text else {}
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raw = {}
    return options(raw) if isinstance(raw, dict) else {}
