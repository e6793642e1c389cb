"""vllm.yaml: what each vLLM release asks of a host, and how it behaves where a plan depends on it."""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Annotated, Self

from pydantic import Field, model_validator

from rackhand.catalog.book import HERE, Book, Entry, read
from rackhand.catalog.vllm_options import Series, number
from rackhand.errors import RackhandError

GIB_MIB = 1024


class Runner(StrEnum):
    """Which models get model runner V2 by default."""

    LISTED = "listed"
    LISTED_OR_DENSE = "listed-or-dense"
    ALL = "all"


class Consumed(StrEnum):
    """How a release counts what is not KV cache: by parts, or by the fall of the free memory."""

    PARTS = "parts"
    TOTAL = "total"


@dataclass(frozen=True, kw_only=True)
class Tier:
    """Batch defaults of cards with at least `from_gib` GiB of memory as CUDA reports it."""

    from_gib: int
    max_num_seqs: int
    max_num_batched_tokens: int
    not_named: tuple[str, ...] = ()
    not_capability: tuple[tuple[int, int], ...] = ()

    def holds(self, card: str, memory_mib: int, capability: tuple[int, int]) -> bool:
        named = any(name in card.lower() for name in self.not_named)
        return memory_mib >= self.from_gib * GIB_MIB and not named and capability not in self.not_capability


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One vLLM release; vllm.yaml explains the fields.

    `capability` is the least compute capability, `python_max` the newest minor that works.
    """

    version: str
    cuda_major: int
    min_branch: str
    python_min: tuple[int, int]
    python_max: tuple[int, int]
    glibc_min: tuple[int, int]
    torch: str
    capability: tuple[int, int]
    mig: bool
    gpu_memory_utilization: float
    runner: Runner
    v1_graphs: bool
    v2_graphs: bool
    consumed: Consumed
    in_flight: int
    in_flight_pipeline: bool
    v2_architectures: tuple[str, ...] = ()
    hybrid_listed: bool = False
    tiers: tuple[Tier, ...] = field(default=(), repr=False)

    def batch_defaults(self, card: str, memory_mib: int, capability: tuple[int, int]) -> tuple[int, int]:
        """Return vLLM's own max_num_seqs and max_num_batched_tokens (tokens) for the API server on a card.

        `memory_mib` is what CUDA reports. Source: get_batch_defaults in vllm/engine/arg_utils.py.
        """
        tier = next(tier for tier in self.tiers if tier.holds(card, memory_mib, capability))
        return tier.max_num_seqs, tier.max_num_batched_tokens

    def uses_v2(self, architecture: str, *, experts: bool, hybrid: bool = False) -> bool:
        """Tell whether a generating model gets runner V2, unless a feature that V2 lacks is asked for.

        `hybrid` means that layers keep a state instead of a KV cache (Mamba and its like).
        Source: use_v2_model_runner in vllm/config/vllm.py.
        """
        if self.runner is Runner.ALL:
            return True
        listed = architecture in self.v2_architectures
        if self.runner is Runner.LISTED:
            return listed
        return listed and self.hybrid_listed if hybrid else listed or not experts

    def reserves_graphs(self, architecture: str, *, experts: bool, hybrid: bool = False) -> bool:
        """Tell whether an estimate of the CUDA graphs' memory is taken off the KV cache."""
        return self.v2_graphs if self.uses_v2(architecture, experts=experts, hybrid=hybrid) else self.v1_graphs

    def batches_in_flight(self, pipeline_parallel_size: int, *, v2: bool) -> int:
        """Return how many batches a sliding window's blocks are kept for, with async scheduling.

        Source: max_concurrent_batches in vllm/config/vllm.py.
        """
        if not self.in_flight_pipeline:
            return self.in_flight
        if v2:
            return pipeline_parallel_size + self.in_flight - 1
        return self.in_flight if pipeline_parallel_size <= 1 else pipeline_parallel_size


class EngineRow(Entry):
    """One series, for instance 0.33."""

    series: Series
    cuda_major: int
    min_branch: Annotated[str, Field(pattern=r"^\d{3}$")]
    python_min: tuple[int, int]
    python_max: tuple[int, int]
    glibc_min: tuple[int, int]
    torch: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    capability: tuple[int, int]
    mig: bool
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)]
    batch: str
    runner: Runner
    v2_architectures: tuple[str, ...] = ()
    hybrid_listed: bool = False
    v1_graphs: bool
    v2_graphs: bool
    consumed: Consumed
    in_flight: Annotated[int, Field(ge=1)]
    in_flight_pipeline: bool


class BatchRow(Entry):
    """One rule for the batch defaults; the last tier is for every card."""

    name: str
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _last_tier_holds(self) -> Self:
        if not self.tiers[-1].holds("", 0, (0, 0)) or self.tiers[-1].not_named or self.tiers[-1].not_capability:
            raise ValueError(f"{self.name}: the last tier must hold for every card")
        return self


class BlockRow(Entry):
    """Tokens per block that an attention backend prefers."""

    backend: str
    tokens: Annotated[int, Field(gt=0)]


class QuantizationRow(Entry):
    """One method that --quantization takes."""

    name: str
    since: Series | None = None
    until: Series | None = None
    deprecated: bool = False

    def there(self, series: str) -> bool:
        after = self.since is None or number(series) >= number(self.since)
        return after and (self.until is None or number(series) < number(self.until))


class EngineBook(Book):
    """The whole file, oldest series first."""

    engines: Annotated[tuple[EngineRow, ...], Field(min_length=1)]
    batches: tuple[BatchRow, ...]
    blocks: tuple[BlockRow, ...]
    quantizations: tuple[QuantizationRow, ...]

    @model_validator(mode="after")
    def _rows_agree(self) -> Self:
        if len({row.series for row in self.engines}) != len(self.engines):
            raise ValueError("a series is listed twice")
        if unknown := sorted({row.batch for row in self.engines} - {row.name for row in self.batches}):
            raise ValueError(f"unknown batch rule: {', '.join(unknown)}")
        return self


@cache
def engine_book() -> EngineBook:
    """Return the checked file."""
    return read(EngineBook, HERE / "vllm.yaml")


@cache
def engine(version: str) -> Engine:
    """Return what is known of vLLM `version` (0.33.0, 0.33.1.post1, …).

    Raises RackhandError `unknown-engine` for a series that is not in the catalogue.
    """
    row = _row(version)
    tiers = next(batch.tiers for batch in engine_book().batches if batch.name == row.batch)
    facts = {name: getattr(row, name) for name in EngineRow.model_fields if name not in ("series", "batch", "source")}
    return Engine(version=version, tiers=tiers, **facts)


@cache
def quantizations(version: str) -> tuple[str, ...]:
    """Return the names that --quantization takes; raises RackhandError `unknown-engine`."""
    series = _row(version).series
    return tuple(row.name for row in engine_book().quantizations if row.there(series))


def block_tokens(backend: str) -> int:
    """Return the tokens per block of an attention backend; 16 where it is not in the catalogue, as in vLLM."""
    return next((row.tokens for row in engine_book().blocks if row.backend == backend), 16)


def _row(version: str) -> EngineRow:
    rows = engine_book().engines
    series = ".".join(version.split(".")[:2])
    row = next((row for row in rows if row.series == series), None)
    if row is None:
        what = f"vLLM {version} is not in the catalogue, which knows {rows[0].series} to {rows[-1].series}"
        raise RackhandError("unknown-engine", what, "engine_version", f"choose one of these, newest {rows[-1].series}")
    return row
