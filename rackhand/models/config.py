"""From a config.json to a model spec: exact parameters, bytes, and what each layer keeps of a sequence. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rackhand.models import attention, feedforward
from rackhand.models.families import FAMILIES, LLAMA, Family
from rackhand.models.matrices import Matrix, parts
from rackhand.models.quantization import storage
from rackhand.models.reading import Reader
from rackhand.models.spec import LayerGroup, ModelSpec
from rackhand.models.windows import windows

ELEMENT_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


def spec_from_config(
    config: Mapping[str, Any],
    name: str,
    *,
    tensors: Mapping[str, Any] | None = None,
    total_bytes: int | None = None,
    quantize_config: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """Compute a model's spec from its config.json; `name` is for messages and the spec alone.

    Raises RackhandError `model-unsupported` (not a decoder, or numbers are missing) or `model-config` (nonsense).
    """
    text = Reader(config, name)
    family = FAMILIES.get(text.text("model_type"), LLAMA)
    text = Reader(config, name, family.defaults)
    layers = text.size("num_hidden_layers", "n_layer", "n_layers")
    shape = attention.heads(text)
    matrices, groups = _decoder(text, family, layers)
    stored = storage(None, 2, name)
    mixed = feedforward.mixture(text, layers)
    return ModelSpec(
        name=name,
        architecture=next(iter(text.words("architectures")), ""),
        dtype="bfloat16",
        layers=layers,
        hidden_size=shape.hidden,
        intermediate_size=text.size("intermediate_size", default=4 * shape.hidden),
        vocab_size=text.size("vocab_size"),
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_size=shape.key_size,
        max_context=text.size("max_position_embeddings", default=2048),
        groups=merged(groups),
        parts=parts(matrices, stored),
        weights_source="computed",
        experts=mixed.experts if mixed else None,
        tied_embeddings=text.flag("tie_word_embeddings", default=family.tied),
    )


def _decoder(text: Reader, family: Family, layers: int) -> tuple[list[Matrix], list[LayerGroup]]:
    hidden = text.size("hidden_size", "n_embd", "d_model")
    vocabulary = text.size("vocab_size")
    matrices = [Matrix("embedding", "model.embed_tokens", vocabulary, hidden)]
    groups = []
    for mine, kept in _layers(text, family, layers):
        matrices += mine
        groups.append(kept)
    matrices.append(Matrix("final-norm", "model.norm", hidden * (2 if family.norm_bias else 1)))
    if not text.flag("tie_word_embeddings", default=family.tied):
        matrices.append(Matrix("lm-head", "lm_head", vocabulary, hidden))
    return matrices, groups


def _layers(text: Reader, family: Family, layers: int) -> Iterator[tuple[list[Matrix], LayerGroup]]:
    shape = attention.heads(text)
    mixed = feedforward.mixture(text, layers)
    width = text.size("intermediate_size", "n_inner", default=4 * shape.hidden)
    for layer, window in enumerate(windows(text, family, layers)):
        prefix = f"model.layers.{layer}"
        matrices = [Matrix("norms", f"{prefix}.norms", family.norms * shape.hidden * (2 if family.norm_bias else 1))]
        if "kv_lora_rank" in text:
            compressed = attention.latent(text)
            matrices += attention.compressed(compressed, f"{prefix}.self_attn")
            kept = attention.latent_group(compressed)
        else:
            mine = replace(shape, window=window)
            matrices += attention.grouped(mine, family, text, f"{prefix}.self_attn")
            kept = attention.group(mine)
        if mixed and layer in mixed.on:
            matrices += feedforward.sparse(mixed, text, family, shape.hidden, f"{prefix}.mlp")
        else:
            matrices += feedforward.dense(text, family, shape.hidden, width, f"{prefix}.mlp")
        yield matrices, kept


def merged(groups: list[LayerGroup]) -> tuple[LayerGroup, ...]:
    """Put layers that keep the same into one group, in the order of their first layer."""
    counts: dict[LayerGroup, int] = {}
    for group in groups:
        counts[group] = counts.get(group, 0) + group.layers
    return tuple(replace(group, layers=layers) for group, layers in counts.items())
