"""The weights behind attention: one multilayer perceptron, or a mixture of experts on the layers that have it."""

from collections.abc import Iterator
from dataclasses import dataclass

from rackhand.models.attention import says
from rackhand.models.families import Family
from rackhand.models.matrices import Matrix
from rackhand.models.reading import Reader
from rackhand.models.spec import Experts

COUNTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts")


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A mixture of experts; `shared_size` is the width of the shared ones (0: none), `on` the layers that have it."""

    experts: Experts
    shared_size: int
    on: frozenset[int]


def mixture(text: Reader, layers: int) -> Mixture | None:
    """Read the experts; None for a dense model. Raises RackhandError."""
    count = text.count(*COUNTS)
    if count < 2:
        return None
    size = text.size("moe_intermediate_size", "expert_intermediate_size", "intermediate_size")
    shared = text.count("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
    each = text.size("moe_shared_expert_intermediate_size", default=size)
    width = text.count("shared_expert_intermediate_size", "shared_intermediate_size", default=shared * each)
    if "interleave_moe_layer_step" in text:  # Llama 4: one shared expert, as wide as the others
        shared, width = 1, size
    experts = Experts(
        count=count,
        per_token=min(count, text.size(*PER_TOKEN)),
        intermediate_size=size,
        shared=shared or int(width > 0),
    )
    return Mixture(experts=experts, shared_size=width, on=frozenset(_expert_layers(text, layers)))


def _expert_layers(text: Reader, layers: int) -> Iterator[int]:
    """Yield the layers with experts; every family has its own keys for it."""
    listed = text.numbers("moe_layers")
    first = text.count("first_k_dense_replace", "moe_layer_start_index")
    last = text.count("moe_layer_end_index", default=layers - 1)
    without = set(text.numbers("mlp_only_layers"))
    every, offset = _period(text)
    kinds = text.words("mlp_layer_types")
    if kinds:
        listed = tuple(layer for layer, kind in enumerate(kinds) if kind == "sparse")
    for layer in range(layers):
        due = layer in listed if listed else first <= layer <= last and layer % every == offset % every
        if due and layer not in without:
            yield layer


def _period(text: Reader) -> tuple[int, int]:
    for key in ("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval"):
        if key in text:
            return (every := text.size(key)), every - 1
    return text.size("expert_layer_period", "moe_layer_freq", default=1), text.count("expert_layer_offset")


def dense(text: Reader, family: Family, hidden: int, size: int, prefix: str) -> Iterator[Matrix]:
    """Yield the weights of one perceptron of width `size`."""
    yield from _perceptron("mlp", prefix, hidden, size, family.gated_mlp)
    if says(text, family.mlp_bias):
        yield Matrix("biases", f"{prefix}.up.bias", size * (2 if family.gated_mlp else 1))
        yield Matrix("norms", f"{prefix}.down_proj.bias", hidden)


def sparse(mixed: Mixture, text: Reader, family: Family, hidden: int, prefix: str) -> Iterator[Matrix]:
    """Yield the weights of one layer's router, experts and shared expert."""
    experts = mixed.experts
    size, inner = experts.intermediate_size, text.count("moe_latent_size", default=hidden)
    yield Matrix("router", f"{prefix}.gate", experts.count, hidden)
    if family.router_bias:
        yield Matrix("router", f"{prefix}.gate.bias", experts.count)
    if family.correction_bias:
        yield Matrix("router", f"{prefix}.gate.e_score_correction_bias", experts.count, fixed_bytes=4)
    yield from _perceptron("experts", f"{prefix}.experts", inner, size, family.gated_mlp, experts.count)
    if inner != hidden:
        yield Matrix("latent", f"{prefix}.fc1_latent_proj", inner, hidden)
        yield Matrix("latent", f"{prefix}.fc2_latent_proj", hidden, inner)
    if family.expert_bias:
        width = size * (2 if family.gated_mlp else 1) + hidden
        yield Matrix("biases", f"{prefix}.experts.bias", width, copies=experts.count)
    if mixed.shared_size:
        yield from _perceptron(
            "shared-experts", f"{prefix}.shared_experts", hidden, mixed.shared_size, family.gated_mlp
        )
        if family.shared_gate:
            yield Matrix("router", f"{prefix}.shared_expert_gate", 1, hidden)


def _perceptron(part: str, prefix: str, hidden: int, size: int, gated: bool, copies: int = 1) -> Iterator[Matrix]:
    if gated:
        yield Matrix(part, f"{prefix}.gate_proj", size, hidden, copies)
    yield Matrix(part, f"{prefix}.up_proj", size, hidden, copies)
    yield Matrix(part, f"{prefix}.down_proj", hidden, size, copies)
