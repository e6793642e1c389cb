"""From a config.json to a model spec: exact parameters, bytes, and what each layer keeps of a sequence. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from rackhand.errors import RackhandError
from rackhand.models import decoder, limits, towers
from rackhand.models.decoder import Decoder
from rackhand.models.families import FAMILIES, LLAMA, STRANGE, Family
from rackhand.models.headers import from_headers, from_index
from rackhand.models.matrices import parts
from rackhand.models.packing import Storage
from rackhand.models.quantization import storage
from rackhand.models.reading import Reader
from rackhand.models.spec import LayerGroup, ModelSpec
from rackhand.models.tensors import Tensor

NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
GENERATES = re.compile(r"CausalLM|ConditionalGeneration|LMHeadModel|Chat")
ELEMENT_BYTES = 2  # bfloat16 or float16, which is what vLLM loads


def spec_from_config(
    config: Mapping[str, Any],
    name: str,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    total_bytes: int | None = None,
    tensor_names: Collection[str] = (),
    quantize_config: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """Compute a model's spec from its config.json; `name` is for messages and the spec alone.

    Bytes are those of `tensors` (safetensors headers), scaled to `total_bytes` (an index, whose `tensor_names` tell
    what vLLM skips), or computed. Raises RackhandError `model-unsupported` or `model-config`.
    """
    top = _top(config, name)
    text, family, source = _text(top)
    model = decoder.read(text, family, tied=_tied(top, text, family), element_bytes=ELEMENT_BYTES)
    stored = storage(_quantization(top, text, quantize_config), ELEMENT_BYTES, name)
    tower = towers.read(top, model.heads.hidden)
    matrices = (*model.matrices(), *tower.matrices)
    spec = _spec(top, model, name, stored, source or tower.source)
    spec = replace(spec, parts=parts(matrices, stored), multimodal=tower.kinds)
    if tensors:
        return from_headers(spec, tensors, matrices, stored)
    return from_index(spec, total_bytes, tensor_names, matrices, stored) if total_bytes else spec


def _top(config: Any, name: str) -> Reader:
    if not isinstance(config, Mapping):
        raise RackhandError("model-config", "config.json is not a JSON object", name, "download the model again")
    return Reader(config, name)


def _spec(top: Reader, model: Decoder, name: str, stored: Storage, source: str) -> ModelSpec:
    text = model.text
    return ModelSpec(
        name=name,
        architecture=next(iter(top.words("architectures") or text.words("architectures")), ""),
        dtype=limits.dtype(top, text),
        layers=len(model.layers),
        hidden_size=model.heads.hidden,
        intermediate_size=model.width,
        vocab_size=model.vocabulary,
        heads=model.heads.heads,
        kv_heads=model.heads.kv_heads,
        head_size=model.heads.key_size,
        max_context=limits.max_context(text, top.text("model_type") or model.kind),
        groups=merged(model.groups()),
        parts=(),
        weights_source="computed",
        quantization=stored.quantization,
        experts=model.mixture.experts if model.mixture else None,
        tied_embeddings=model.tied,
        needs_remote_code=model.kind not in FAMILIES and "auto_map" in top,
        source=source,
    )


def _text(top: Reader) -> tuple[Reader, Family, str]:
    """Return the level that describes the decoder, its family, and what is not known; raises RackhandError."""
    level = top
    for _ in range(2):  # Omni models nest twice
        nested = next((key for key in NESTED if isinstance(level.get(key), Mapping)), None)
        level = level.table(nested) if nested else level
    kind = level.text("model_type")
    if level is not top and not kind:
        kind = _inner_kind(top.text("model_type"))
        level = Reader({**level.values, "model_type": kind}, top.where)
    _refuse(top, kind)
    family = FAMILIES.get(kind, LLAMA)
    source = "" if kind in FAMILIES else f"model type '{kind or 'unknown'}' is not known: computed as a usual decoder"
    return Reader(level.values, top.where, family.defaults), family, source


def _refuse(top: Reader, kind: str) -> None:
    """Refuse what is no decoder, or has layers whose memory the usual keys do not tell."""
    said = " ".join(top.words("architectures"))
    if kind in STRANGE:
        what = f"layers of model type '{kind}' are not known here"
    elif top.flag("is_encoder_decoder") or (kind not in FAMILIES and said and not GENERATES.search(said)):
        what = f"{said or kind} does not generate text"
    else:
        return
    raise RackhandError("model-unsupported", what, top.where, "name a decoder that generates text")


def _inner_kind(outer: str) -> str:
    """Guess the decoder of a multimodal file that does not name it, as its configuration class would."""
    inner = {"gemma3": "gemma3_text", "gemma4": "gemma4_text", "llava": "llama", "llava_next": "llama"}
    return inner.get(outer, {"mistral3": "mistral", "pixtral": "mistral"}.get(outer, f"{outer}_text"))


def _tied(top: Reader, text: Reader, family: Family) -> bool:
    return text.flag("tie_word_embeddings", default=top.flag("tie_word_embeddings", default=family.tied))


def _quantization(top: Reader, text: Reader, beside: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    for level in (top, text):
        for key in ("quantization_config", "compression_config"):
            if key in level:
                return level.table(key).values
    return beside


def merged(groups: Iterable[LayerGroup]) -> tuple[LayerGroup, ...]:
    """Put layers that keep the same into one group, in the order of their first layer."""
    counts: dict[LayerGroup, int] = {}
    for group in groups:
        counts[group] = counts.get(group, 0) + group.layers
    return tuple(replace(group, layers=layers) for group, layers in counts.items())
