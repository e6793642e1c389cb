"""The weights behind attention: one multilayer perceptron, or a mixture of experts on the layers that have it."""

from collections.abc import Iterator
from dataclasses import dataclass

from rackhand.models.attention import says
from rackhand.models.families import Family
from rackhand.models.matrices import Matrix
from rackhand.models.reading import Reader
from rackhand.models.spec import Experts

COUNTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk")


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A mixture of experts; `shared_size` is the width of what all tokens pass through (0: nothing), `on` its layers."""

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
    width = text.count("shared_expert_intermediate_size", "shared_intermediate_size", default=shared * size)
    experts = Experts(
        count=count,
        per_token=min(count, text.size(*PER_TOKEN)),
        intermediate_size=size,
        shared=shared or bool(width),
    )
    return Mixture(experts=experts, shared_size=width, on=frozenset(_expert_layers(text, layers)))


def _expert_layers(text: Reader, layers: int) -> Iterator[int]:
    first, dense = text.count("first_k_dense_replace"), set(text.numbers("mlp_only_layers"))
    every = text.size("decoder_sparse_step", "moe_layer_freq", default=1)
    for layer in range(layers):
        due = (layer + 1) % every == 0 if "decoder_sparse_step" in text else layer % every == 0
        if layer >= first and layer not in dense and due:
            yield layer


def dense(text: Reader, family: Family, hidden: int, size: int, prefix: str) -> Iterator[Matrix]:
    """Yield the weights of one perceptron of width `size`."""
    yield from _perceptron("mlp", prefix, hidden, size, family.gated_mlp)
    if says(text, family.mlp_bias):
        yield Matrix("biases", f"{prefix}.up.bias", size * (2 if family.gated_mlp else 1))
        yield Matrix("norms", f"{prefix}.down_proj.bias", hidden)


def sparse(mixed: Mixture, text: Reader, family: Family, hidden: int, prefix: str) -> Iterator[Matrix]:
    """Yield the weights of one layer's router, experts and shared expert."""
    experts = mixed.experts
    yield Matrix("router", f"{prefix}.gate", experts.count, hidden)
    if says(text, family.router_bias):
        yield Matrix("router", f"{prefix}.gate.bias", experts.count)
    if says(text, family.correction_bias):
        yield Matrix("router", f"{prefix}.gate.e_score_correction_bias", experts.count, fixed_bytes=4)
    size = experts.intermediate_size
    yield from _perceptron("experts", f"{prefix}.experts", hidden, size, family.gated_mlp, experts.count)
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
