"""What vLLM's profile run takes at its peak: a dummy batch of the largest size through layers and sampler."""

from functools import lru_cache

from rackhand.catalog import engine
from rackhand.catalog.memory import memory_book
from rackhand.catalog.vllm import Consumed
from rackhand.fitting.terms import MIB, Serving, Term
from rackhand.models.spec import Attention, ModelSpec

ELEMENT = {"float32": 4, "float": 4}
# Experts in this format run on kernels that keep no workspace between layers.
LOOSE = ("mxfp4", "gpt_oss_mxfp4")


@lru_cache(maxsize=1024)
def newer_runner(spec: ModelSpec, version: str) -> bool:
    """Tell whether model runner V2 serves this model in this version."""
    return engine(version).uses_v2(spec.architecture, experts=spec.experts is not None, hybrid=_hybrid(spec))


@lru_cache(maxsize=1024)
def reserves_graphs(spec: ModelSpec, version: str) -> bool:
    """Tell whether this version takes an estimate of its CUDA graphs off the cache."""
    return engine(version).reserves_graphs(spec.architecture, experts=spec.experts is not None, hybrid=_hybrid(spec))


@lru_cache(maxsize=1024)
def activation(spec: ModelSpec, serving: Serving) -> Term:
    """Return the peak of one rank: workspaces, and the larger of a layer's forward pass and sampling."""
    phases = (_mlp(spec, serving), _attention(spec, serving), _sampling(spec, serving))
    largest, words = max(phases)
    kept, blas = _kept(spec, serving), 0.0 if _quantised(spec, serving) else memory_book().workspace.mib
    parts = [words]
    parts += [f"{kept / MIB:,.0f} MiB experts' workspace"] if kept else []
    parts += [f"{blas:.0f} MiB cuBLAS workspace"] if blas else []
    buffers = _buffers_mib(spec, serving)
    parts += [f"{buffers:,.0f} MiB batch buffers"] if buffers else []
    return Term(
        name="activation",
        mib=(largest + kept) / MIB + blas + buffers,
        formula=" + ".join(parts),
        source="vLLM's profile run; constants of catalog/memory.yaml",
    )


def _buffers_mib(spec: ModelSpec, serving: Serving) -> float:
    """Return the batch's own tensors, which are counted where everything that left the free memory is."""
    if engine(serving.version).consumed is not Consumed.TOTAL:
        return 0.0
    book = memory_book().buffers
    return book.mib + serving.max_num_seqs * spec.vocab_size * book.entry_bytes / MIB


def _hybrid(spec: ModelSpec) -> bool:
    return any(group.attention is Attention.STATE for group in spec.groups)


def _quantised(spec: ModelSpec, serving: Serving) -> bool:
    stored = spec.quantization is not None and spec.quantization.method not in LOOSE
    return stored or serving.quantization is not None


def _mlp(spec: ModelSpec, serving: Serving) -> tuple[float, str]:
    row, family = memory_book().forward, memory_book().family(spec.architecture)
    compiled = not serving.enforce_eager and spec.experts is None
    hidden = (family.hidden if family else row.hidden) + (row.compiled_hidden if compiled else 0.0)
    inner = row.intermediate + (row.compiled_intermediate if compiled else 0.0)
    wide = inner * spec.intermediate_size if spec.experts is None else 0.0
    wide = wide / serving.tensor_parallel_size + (0.0 if _keeps(spec) else _experts(spec, serving))
    return _batch(spec, serving, hidden, wide)


def _attention(spec: ModelSpec, serving: Serving) -> tuple[float, str]:
    """Return the peak of an attention layer: hidden states, projections, its output; of latent attention, its chunk."""
    latent = memory_book().latent
    if any(group.attention is Attention.MLA for group in spec.groups):
        context = latent.sequences * (serving.max_model_len or spec.max_context)
        heads = max(1, spec.heads // serving.tensor_parallel_size)
        chunk = min(context, latent.tokens) * heads * latent.elements * ELEMENT.get(serving.dtype, 2)
        hidden, words = _batch(spec, serving, 5.0, 0.0)
        return chunk + hidden, f"{chunk / MIB:,.0f} MiB for a chunk of context + {words}"
    family = memory_book().family(spec.architecture)
    queries = spec.heads * spec.head_size / serving.tensor_parallel_size
    keys = max(1, spec.kv_heads // serving.tensor_parallel_size) * spec.head_size
    copies = queries + keys if family is not None and family.copies else 0.0
    return _batch(spec, serving, 3.0, 2 * queries + 2 * keys + copies)


def _batch(spec: ModelSpec, serving: Serving, hidden: float, wide: float) -> tuple[float, str]:
    tokens, size = serving.max_num_batched_tokens, ELEMENT.get(serving.dtype, 2)
    words = f"{tokens:,} tokens x ({hidden:g} x {spec.hidden_size:,} + {wide:,.0f}) x {size} bytes"
    return tokens * (hidden * spec.hidden_size + wide) * size, words


def _keeps(spec: ModelSpec) -> bool:
    method = spec.quantization.method if spec.quantization else ""
    return spec.experts is not None and method not in LOOSE


def _kept(spec: ModelSpec, serving: Serving) -> float:
    """Return the bytes of the experts' workspaces, which stay once the first layer with experts has run."""
    if not _keeps(spec):
        return 0.0
    return serving.max_num_batched_tokens * _experts(spec, serving) * ELEMENT.get(serving.dtype, 2)


def _experts(spec: ModelSpec, serving: Serving) -> float:
    """Return the elements per token of both workspaces of the fused experts, which hold every visit of every token.

    Source: TritonExperts.workspace_shapes: visits x max(intermediate, hidden) and visits x max(2 intermediate, hidden).
    """
    if spec.experts is None:
        return 0.0
    each = spec.experts.intermediate_size / (1 if serving.expert_parallel else serving.tensor_parallel_size)
    return spec.experts.per_token * (max(each, spec.hidden_size) + max(2 * each, spec.hidden_size))


def _sampling(spec: ModelSpec, serving: Serving) -> tuple[float, str]:
    book = memory_book().sampler
    each = book.v2_bytes if newer_runner(spec, serving.version) else book.v1_bytes
    sequences = min(serving.max_num_seqs, serving.max_num_batched_tokens)
    hidden = serving.max_num_batched_tokens * spec.hidden_size * ELEMENT.get(serving.dtype, 2)
    words = f"{sequences:,} sequences x {spec.vocab_size:,} entries x {each:g} bytes + hidden states"
    return sequences * spec.vocab_size * each + hidden, words
