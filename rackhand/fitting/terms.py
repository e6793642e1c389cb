"""The words of the memory bill: what is asked, what it is asked of, and the answer. Plain data, MiB and tokens."""

from dataclasses import dataclass

from rackhand.outcome import Problem

MIB = 1 << 20
# Source of a term that an engine reported.
MEASURED = "report of an engine"


@dataclass(frozen=True, kw_only=True)
class Device:
    """One GPU of the set that an instance would take.

    `total_mib` is what CUDA reports as the card's memory (less than NVML's total, which counts the reserve), `free_mib`
    what is free before the engine starts, None for an idle card.
    """

    card: str
    capability: tuple[int, int]
    total_mib: int
    free_mib: int | None = None


@dataclass(frozen=True, kw_only=True)
class Serving:
    """The engine's settings that memory depends on, resolved: nothing is "auto" here but `max_model_len` (None).

    `quantization` is an online method ("fp8") asked for on a model that is not stored quantised, else None.
    `kv_cache_bytes` replaces the share of the memory when it is set (vLLM's `kv_cache_memory_bytes`).
    """

    version: str
    gpu_memory_utilization: float
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    dtype: str = "bfloat16"
    kv_cache_dtype: str = "auto"
    quantization: str | None = None
    enforce_eager: bool = False
    block_size: int | None = None
    kv_cache_bytes: int | None = None
    expert_parallel: bool = False


@dataclass(frozen=True, kw_only=True)
class Term:
    """One line of the bill of one rank: a name, MiB, the formula with its numbers, and where the formula is from."""

    name: str
    mib: float
    formula: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Terms that an engine reported on this class of host (card, model, version, settings alike), in MiB."""

    weights_mib: float | None = None
    activation_mib: float | None = None
    non_torch_mib: float | None = None
    graphs_mib: float | None = None
    load_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The bill of the fullest rank and what follows from it.

    `terms` are weights, activation, cuda_graphs, non_torch, other_processes (informative) and kv_cache, in this order;
    what vLLM charges to the share sums up to `allowed_mib` = total x gpu_memory_utilization when the model fits.
    `kv_tokens` is what vLLM logs as "GPU KV cache size"; `max_context` the longest context that one sequence can have,
    not above the model's own; `sequences` how many of `context` tokens fit at once.
    """

    fits: bool
    context: int
    allowed_mib: float
    terms: tuple[Term, ...]
    kv_tokens: int
    max_context: int
    sequences: float
    reasons: tuple[Problem, ...] = ()

    def mib(self, name: str) -> float:
        return sum(term.mib for term in self.terms if term.name == name)
