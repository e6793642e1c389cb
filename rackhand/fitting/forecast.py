"""The forecast: the memory bill of one instance, and whether vLLM would start with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import log2

from rackhand.catalog.memory import memory_book
from rackhand.fitting.activation import activation, newer_runner, reserves_graphs
from rackhand.fitting.cache import Pool, pool
from rackhand.fitting.rounding import extra_mib
from rackhand.fitting.terms import MEASURED, MIB, Device, Forecast, Measured, Serving, Term
from rackhand.fitting.weights import StageLoad, stages
from rackhand.models.spec import ModelSpec
from rackhand.outcome import Problem

NOTHING = Measured()
WORKER = "vllm/v1/worker/gpu_worker.py, determine_available_memory"
CACHE = "vllm/v1/core/kv_cache_utils.py, get_kv_cache_configs"


@dataclass(frozen=True)
class Rank:
    """The bill of one pipeline stage's ranks before the cache is cut; `left` is bytes for the cache.

    `certain` is what of them a plan counts on: all where they were given or measured.
    """

    terms: tuple[Term, ...]
    left: float
    certain: float
    pool: Pool

    @property
    def blocks(self) -> int:
        return self.pool.count(self.left)


@lru_cache(maxsize=1024)
def forecast(spec: ModelSpec, device: Device, serving: Serving, measured: Measured | None = None) -> Forecast:
    """Predict one instance on equal devices: every stage has its bill, the stage with the fewest blocks decides.

    Source of the rule: vLLM takes total x gpu_memory_utilization, subtracts weights, the peak of a profile run, what
    grew outside PyTorch and, on the older model runner, an estimate of its CUDA graphs; the rest is the KV cache.
    """
    tight = tightest(spec, device, serving, measured)
    context = serving.max_model_len or spec.max_context
    needed = tight.pool.blocks_per_sequence(context)
    blocks = tight.blocks
    reasons = tuple(_reasons(device, serving, tight, context, spec))
    return Forecast(
        fits=not reasons,
        context=context,
        allowed_mib=_allowed(device, serving),
        terms=(*tight.terms, _cache_term(tight, context)),
        kv_tokens=int(blocks / needed * context),
        max_context=tight.pool.longest(tight.certain, spec.max_context),
        sequences=blocks / needed,
        reasons=reasons,
    )


def tightest(spec: ModelSpec, device: Device, serving: Serving, measured: Measured | None = None) -> Rank:
    """Return the bill of the stage that has room for the fewest blocks."""
    known = measured or NOTHING
    ranks = [_rank(spec, device, serving, known, load) for load in dict.fromkeys(stages(spec, serving))]
    return min(ranks, key=lambda rank: rank.blocks)


def graphs_beside(spec: ModelSpec, device: Device, serving: Serving) -> tuple[float, float] | None:
    """Return the MiB that CUDA graphs take beside the share, and what is left there; None where they are inside it."""
    if serving.enforce_eager or reserves_graphs(spec, serving.version):
        return None
    free = device.total_mib if device.free_mib is None else device.free_mib
    left = free - memory_book().context.mib - _allowed(device, serving)
    return _estimate(spec, serving, spec.layers)[0], max(0.0, left)


def _allowed(device: Device, serving: Serving) -> float:
    return device.total_mib * serving.gpu_memory_utilization


def _rank(spec: ModelSpec, device: Device, serving: Serving, known: Measured, load: StageLoad) -> Rank:
    terms = (
        _weights(spec, serving, load, known),
        _known(activation(spec, serving), known.activation_mib),
        _graphs(spec, serving, load.layers, known),
        _non_torch(serving, known),
        _others(device),
    )
    charged = sum(term.mib for term in terms if term.name != "other_processes")
    left = (_allowed(device, serving) - charged) * MIB
    if serving.kv_cache_bytes is not None:
        left = float(serving.kv_cache_bytes)
    # What was left unexplained by a report is outside torch, so this term is there whenever tokens were reported.
    sure = serving.kv_cache_bytes is not None or known.non_torch_mib is not None
    certain = left if sure else left * (1 - memory_book().margin.share)
    return Rank(terms, left, certain, pool(spec, serving, load.layers))


def _weights(spec: ModelSpec, serving: Serving, load: StageLoad, known: Measured) -> Term:
    extra = extra_mib(spec, serving, load.layers)
    term = Term(
        name="weights",
        mib=load.bytes / MIB + extra,
        formula=f"{load.bytes / MIB:,.0f} MiB of tensors on this rank + {extra:.0f} MiB of tables and rounding",
        source="safetensors headers or config.json; vllm/model_executor (how layers are divided)",
    )
    return _known(term, known.weights_mib)


def _graphs(spec: ModelSpec, serving: Serving, layers: int, known: Measured) -> Term:
    charged = not serving.enforce_eager and reserves_graphs(spec, serving.version)
    mib, why = _estimate(spec, serving, layers) if charged else (0.0, "not charged to the share")
    term = Term(name="cuda_graphs", mib=mib, formula=why, source="profile_cudagraph_memory of the model runner")
    return _known(term, known.graphs_mib if charged else None)


def _estimate(spec: ModelSpec, serving: Serving, layers: int) -> tuple[float, str]:
    book = memory_book().graphs
    if not newer_runner(spec, serving.version):
        return book.base_mib + book.layer_mib * layers, f"{book.base_mib:g} + {layers} layers x {book.layer_mib:g} MiB"
    sequences = min(max(serving.max_num_seqs, book.from_sequences), book.to_sequences)
    doublings = log2(sequences / book.from_sequences)
    return book.doubling_mib * doublings, f"{book.doubling_mib:g} MiB x {doublings:.1f} doublings of the sequences"


def _non_torch(serving: Serving, known: Measured) -> Term:
    book = memory_book().non_torch
    several = serving.tensor_parallel_size * serving.pipeline_parallel_size > 1
    mib = book.parallel_mib if several else book.single_mib
    words = "CUDA modules and NCCL buffers" if several else "CUDA modules"
    return _known(Term(name="non_torch", mib=mib, formula=words, source=WORKER), known.non_torch_mib)


def _others(device: Device) -> Term:
    held = 0 if device.free_mib is None else max(0, device.total_mib - device.free_mib)
    words = "total - free before the start" if held else "the card is idle"
    return Term(name="other_processes", mib=held, formula=words, source="NVML")


def _known(term: Term, measured: float | None) -> Term:
    if measured is None:
        return term
    return Term(name=term.name, mib=measured, formula="measured on this class of host", source=MEASURED)


def _cache_term(rank: Rank, context: int) -> Term:
    return Term(
        name="kv_cache",
        mib=max(0.0, rank.left) / MIB,
        formula=f"{rank.blocks:,} blocks of {rank.pool.block_bytes:,} bytes; {context:,} tokens take "
        f"{rank.pool.blocks_per_sequence(context):,}",
        source=CACHE,
    )


def _reasons(device: Device, serving: Serving, rank: Rank, context: int, spec: ModelSpec) -> Iterator[Problem]:
    yield from _crowded(device, serving, rank)
    if context > spec.max_context:
        yield Problem(
            code="context-over-model",
            what=f"{context:,} tokens are asked for and the model was made for {spec.max_context:,}",
            where=spec.name,
            next_step=f"set serve_max_model_len to at most {spec.max_context}",
        )
    needed = rank.pool.blocks_per_sequence(context)
    if rank.left <= 0 or needed > rank.pool.count(rank.certain):
        yield _too_small(device, rank, context, spec)


def _crowded(device: Device, serving: Serving, rank: Rank) -> Iterator[Problem]:
    """Hold what is asked of the card against what is free on it at the start.

    vLLM asks for the whole share before it looks at kv-cache-memory-bytes (request_memory), and then takes those bytes
    unseen.
    """
    free = device.total_mib if device.free_mib is None else device.free_mib
    free_mib, allowed = max(0.0, free - memory_book().context.mib), _allowed(device, serving)
    if free_mib < allowed:
        share = int(free_mib / device.total_mib * 100) / 100
        yield Problem(
            code="memory-in-use",
            what=f"{free_mib:,.0f} MiB are free at the start and gpu-memory-utilization "
            f"{serving.gpu_memory_utilization:g} asks for {allowed:,.0f}",
            where=device.card,
            next_step=f"end what holds the GPU, or set gpu-memory-utilization to at most {share:g}"
            if share
            else "end what holds the GPU",
        )
    elif serving.kv_cache_bytes is not None and (taken := _taken(rank)) > free_mib:
        most = max(0, int(serving.kv_cache_bytes / MIB - taken + free_mib)) * MIB
        yield Problem(
            code="bad-option",
            what=f"kv-cache-memory-bytes and what is beside it take {taken:,.0f} MiB, {free_mib:,.0f} are free",
            where=device.card,
            next_step=f"set kv-cache-memory-bytes to at most {most}, or leave it out",
        )


def _taken(rank: Rank) -> float:
    """Return the MiB of one rank with its cache."""
    return sum(term.mib for term in rank.terms if term.name != "other_processes") + rank.left / MIB


def _too_small(device: Device, rank: Rank, context: int, spec: ModelSpec) -> Problem:
    longest = rank.pool.longest(rank.certain, spec.max_context)
    return Problem(
        code="does-not-fit",
        what=_lack(rank, context)
        if rank.left > 0
        else f"weights and overhead alone take {-rank.left / MIB:,.0f} MiB more than {device.card} is allowed",
        where=device.card,
        next_step=f"set the context to at most {longest}" if longest else "more or larger GPUs, or a quantised model",
    )


def _lack(rank: Rank, context: int) -> str:
    need = rank.pool.blocks_per_sequence(context) * rank.pool.block_bytes / MIB / 1024
    there, certain = rank.left / MIB / 1024, rank.certain / MIB / 1024
    kept = f", of which {certain:,.1f} are certain" if certain < need <= there else ""
    return f"needs {need:,.1f} GiB for {context:,} tokens, {there:,.1f} GiB are there{kept}"
