"""A model as numbers: everything that memory and layout need to know about it. Plain data, no I/O."""

from dataclasses import dataclass
from enum import StrEnum

from typing_extensions import override


class Attention(StrEnum):
    """What a layer keeps per sequence: keys and values of all tokens, of a window, a latent, or one fixed state."""

    FULL = "full"
    SLIDING = "sliding"
    CHUNKED = "chunked"
    MLA = "mla"
    STATE = "state"


@dataclass(frozen=True, kw_only=True)
class LayerGroup:
    """Layers that keep the same per token.

    `key_size` and `value_size` are elements per token and key-value head. MLA: one head, key_size = kv_lora_rank +
    qk_rope_head_dim, value_size 0. SLIDING and CHUNKED: `window` in tokens. STATE: bytes per sequence and layer.
    """

    attention: Attention
    layers: int
    kv_heads: int = 0
    key_size: int = 0
    value_size: int = 0
    window: int | None = None
    state_bytes: int = 0


class Split(StrEnum):
    """How tensor parallelism divides a part: evenly, evenly up to the number of key-value heads, or not at all."""

    TENSOR = "tensor"
    KV_HEADS = "kv-heads"
    WHOLE = "whole"


class Stage(StrEnum):
    """Which pipeline stage holds a part: its layers' share of it on every stage, or the first or last stage alone."""

    LAYERS = "layers"
    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One kind of weights over the whole model.

    `elements` are parameters, `bytes` what they take when loaded as stored. `linear` says that online quantisation
    (`quantization: fp8` on a 16-bit model) shrinks them; it never touches embeddings, norms, routers and lm_head.
    """

    name: str
    elements: int
    bytes: int
    split: Split = Split.TENSOR
    stage: Stage = Stage.LAYERS
    linear: bool = False


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How a checkpoint stores its linear weights; `method` is vLLM's name (auto_awq, fp8, compressed-tensors, …).

    `refused` says why no vLLM runs this variant, empty when one does.
    """

    method: str
    weight_bits: float
    group_size: int | None = None
    activation_bits: int | None = None
    kv_cache_bits: int | None = None
    words: str = ""
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture of experts; `intermediate_size` is one expert's."""

    count: int
    per_token: int
    intermediate_size: int
    shared: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One model; sizes in elements, `max_context` in tokens, `dtype` as vLLM names it (bfloat16, float16, float32).

    `architecture` is config.json's first entry of `architectures`. `weights_source` says how sure the bytes are:
    `headers` (safetensors headers or index), `computed` (from config.json alone) or `declared` (catalogue).
    """

    name: str
    architecture: str
    dtype: str
    layers: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    heads: int
    kv_heads: int
    head_size: int
    max_context: int
    groups: tuple[LayerGroup, ...]
    parts: tuple[Part, ...]
    weights_source: str
    quantization: Quantization | None = None
    experts: Experts | None = None
    tied_embeddings: bool = False
    multimodal: tuple[str, ...] = ()
    needs_remote_code: bool = False
    revision: str | None = None
    source: str = ""

    @override
    def __hash__(self) -> int:
        """Hash what tells models apart: forecasts are kept by model, and all fields would take longer than they."""
        return hash((self.name, self.revision, self.architecture, self.layers, self.max_context))

    @property
    def parameters(self) -> int:
        return sum(part.elements for part in self.parts)

    @property
    def weight_bytes(self) -> int:
        return sum(part.bytes for part in self.parts)
