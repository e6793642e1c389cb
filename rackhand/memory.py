"""Does a model fit a GPU: weights, cache for one sequence and overhead against vLLM's share of the memory. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MIB = 1 << 20
# Activations, CUDA graphs, CUDA context and NCCL of models up to about 13B; measured 0.8-1.7 GiB on L4 and H200.
OVERHEAD_MIB = 1536
ELEMENT_BYTES = {"float32": 4, "float": 4, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}
DEFAULT_ELEMENT_BYTES = 2


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The bill of one rank in MiB; `longest_context` is in tokens."""

    budget_mib: int
    weights_mib: int
    cache_mib: int
    overhead_mib: int
    longest_context: int

    @property
    def fits(self) -> bool:
        return self.weights_mib + self.cache_mib + self.overhead_mib <= self.budget_mib


def kv_bytes_per_token(config: Mapping[str, Any], element_bytes: int) -> int | None:
    """Return key and value bytes per token over all layers; None when config.json does not describe attention.

    Formula: layers x 2 x key-value heads x head size x bytes per element.
    """
    text = _text(config)
    try:
        layers, heads = int(text["num_hidden_layers"]), int(text["num_attention_heads"])
        size = int(text.get("head_dim") or int(text["hidden_size"]) // heads)
        return layers * 2 * int(text.get("num_key_value_heads") or heads) * size * element_bytes
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def element_bytes(options: Mapping[str, Any]) -> int:
    """Return the bytes of one cache element under vLLM's `kv-cache-dtype` and `dtype`."""
    kind = options.get("kv-cache-dtype", "auto")
    return ELEMENT_BYTES.get(str(options.get("dtype", "auto") if kind == "auto" else kind), DEFAULT_ELEMENT_BYTES)


def attention_heads(config: Mapping[str, Any]) -> int | None:
    """Return the number of attention heads, which tensor parallelism has to divide."""
    heads = _text(config).get("num_attention_heads")
    return heads if isinstance(heads, int) else None


def context_length(config: Mapping[str, Any]) -> int | None:
    """Return the context in tokens that the model was made for."""
    length = _text(config).get("max_position_embeddings")
    return length if isinstance(length, int) else None


def fit(memory_mib: int, utilization: float, weight_bytes: int, kv_bytes: int, context: int, ranks: int) -> Fit:
    """Hold a model against one of `ranks` equal GPUs with `memory_mib` each."""
    budget = int(memory_mib * utilization)
    weights = -(-weight_bytes // ranks // MIB)
    per_token = max(1, kv_bytes // ranks)
    room = max(0, budget - weights - OVERHEAD_MIB)
    return Fit(
        budget_mib=budget,
        weights_mib=weights,
        cache_mib=-(-per_token * context // MIB),
        overhead_mib=OVERHEAD_MIB,
        longest_context=room * MIB // per_token,
    )


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of config.json that describes the language model; a multimodal model nests it."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config
