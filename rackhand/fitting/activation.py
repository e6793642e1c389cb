"""What vLLM's profile run takes at its peak: a dummy batch of the largest size through layers and sampler."""

from rackhand.catalog.memory import memory_book
from rackhand.fitting.terms import MIB, Serving, Term
from rackhand.models.spec import ModelSpec

ELEMENT = {"float32": 4, "float": 4}
# Architectures with experts that run on the newer model runner all the same (vllm/config/vllm.py, 0.26.0).
V2_EXPERTS = ("DeepseekV2ForCausalLM", "GraniteMoeForCausalLM", "Qwen2MoeForCausalLM")


def newer_runner(spec: ModelSpec) -> bool:
    """Tell whether model runner V2 serves this model: dense attention models, and a few with experts."""
    states = any(group.state_bytes for group in spec.groups)
    return not states and (spec.experts is None or spec.architecture in V2_EXPERTS)


def activation(spec: ModelSpec, serving: Serving) -> Term:
    """Return the peak of one rank: the larger of a layer's forward pass and sampling, and cuBLAS' workspace."""
    book = memory_book()
    forward, forward_words = _forward(spec, serving)
    sampling, sampling_words = _sampling(spec, serving)
    larger, words = max((forward, forward_words), (sampling, sampling_words))
    return Term(
        name="activation",
        mib=larger / MIB + book.workspace.mib,
        formula=f"{words} + {book.workspace.mib:.0f} MiB workspace",
        source="vLLM's profile run; constants of catalog/memory.yaml",
    )


def _forward(spec: ModelSpec, serving: Serving) -> tuple[float, str]:
    book = memory_book()
    row = book.forward_eager if serving.enforce_eager else book.forward_compiled
    tokens, size = serving.max_num_batched_tokens, ELEMENT.get(serving.dtype, 2)
    wide = max(row.intermediate * spec.intermediate_size / serving.tensor_parallel_size, _experts(spec, serving))
    words = f"{tokens:,} tokens x ({row.hidden:g} x {spec.hidden_size:,} + {wide:,.0f}) x {size} bytes"
    return tokens * (row.hidden * spec.hidden_size + wide) * size, words


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
    each = book.v2_bytes if newer_runner(spec) else book.v1_bytes
    sequences = min(serving.max_num_seqs, serving.max_num_batched_tokens)
    hidden = serving.max_num_batched_tokens * spec.hidden_size * ELEMENT.get(serving.dtype, 2)
    words = f"{sequences:,} sequences x {spec.vocab_size:,} entries x {each:g} bytes + hidden states"
    return sequences * spec.vocab_size * each + hidden, words
