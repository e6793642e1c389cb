"""The weights of one attention layer, and what it keeps per token: grouped queries or a latent."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rackhand.models.families import Family, QkNorm, Trait
from rackhand.models.matrices import Matrix
from rackhand.models.plan import Layer
from rackhand.models.reading import Reader
from rackhand.models.spec import Attention, LayerGroup

KV_HEADS = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num")


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The shape of attention in elements; `window` in tokens, `equal`: values are the keys.

    `borrowed`: the layer reads the cache of an earlier one, and vLLM makes room for weights that are never used.
    """

    hidden: int
    heads: int
    kv_heads: int
    key_size: int
    value_size: int
    window: int | None = None
    chunked: bool = False
    equal: bool = False
    borrowed: bool = False


def heads(text: Reader) -> Heads:
    """Read the shape that all layers share; raises RackhandError."""
    hidden = text.size("hidden_size", "n_embd", "d_model")
    count = text.size("num_attention_heads", "n_head", "n_heads")
    size = text.size("head_dim", default=max(1, hidden // count))
    kv_heads = text.size(*KV_HEADS, default=count)
    if "multi_query" in text and not text.flag("new_decoder_architecture"):
        kv_heads = 1 if text.flag("multi_query") else count
    return Heads(hidden=hidden, heads=count, kv_heads=kv_heads, key_size=size, value_size=size)


def in_layer(shape: Heads, text: Reader, layer: Layer) -> Heads:
    """Return the shape in one layer: its window, and Gemma 4's wider heads of global layers."""
    chunked = "attention_chunk_size" in text
    if not layer.full or "global_head_dim" not in text:
        return replace(shape, window=layer.window, chunked=chunked)
    size, kv_heads = text.size("global_head_dim"), shape.kv_heads
    equal = text.flag("attention_k_eq_v")
    if equal:
        kv_heads = text.size("num_global_key_value_heads", default=kv_heads)
    return replace(shape, key_size=size, value_size=size, kv_heads=kv_heads, equal=equal)


def group(shape: Heads) -> LayerGroup:
    """Describe what one layer keeps."""
    kind = Attention.FULL if shape.window is None else Attention.CHUNKED if shape.chunked else Attention.SLIDING
    return LayerGroup(
        attention=kind,
        layers=1,
        kv_heads=shape.kv_heads,
        key_size=shape.key_size,
        value_size=shape.value_size,
        window=shape.window,
    )


def grouped(shape: Heads, family: Family, text: Reader, prefix: str) -> Iterator[Matrix]:
    """Yield the weights of attention with grouped (or single, or one per head) keys and values."""
    queries, keys, values = (
        shape.heads * shape.key_size,
        shape.kv_heads * shape.key_size,
        shape.kv_heads * shape.value_size,
    )
    yield Matrix("attention", f"{prefix}.q_proj", queries * (2 if family.output_gate else 1), shape.hidden)
    yield Matrix("key-value", f"{prefix}.k_proj", keys, shape.hidden, copied=shape.borrowed)
    # Where values are the keys, vLLM loads the weights into both places.
    yield Matrix("key-value", f"{prefix}.v_proj", values, shape.hidden, copied=shape.equal or shape.borrowed)
    yield Matrix("attention", f"{prefix}.o_proj", shape.hidden, shape.heads * shape.value_size)
    if says(text, family.qkv_bias):
        yield Matrix("biases", f"{prefix}.qkv_proj.bias", queries + keys + values)
    if says(text, family.output_bias):
        yield Matrix("norms", f"{prefix}.o_proj.bias", shape.hidden)
    if family.sinks:
        yield Matrix("biases", f"{prefix}.sinks", shape.heads)
    yield from _qk_norms(shape, family, text, prefix)


def _qk_norms(shape: Heads, family: Family, text: Reader, prefix: str) -> Iterator[Matrix]:
    if family.qk_norm is QkNorm.NONE or (family.qk_norm_key and not text.flag(family.qk_norm_key)):
        return
    yield Matrix("norms", f"{prefix}.qk_norm", shape.key_size * _normed(shape, family))


def _normed(shape: Heads, family: Family) -> int:
    if shape.borrowed:
        return 1
    return 2 if family.qk_norm is QkNorm.HEAD else shape.heads + shape.kv_heads


def says(text: Reader, trait: Trait) -> bool:
    """Resolve a trait of a family: fixed, or said by a key of config.json."""
    return text.flag(trait) if isinstance(trait, str) else trait


@dataclass(frozen=True, kw_only=True)
class Latent:
    """The shape of multi-head latent attention in elements; `index_*` describe V3.2's indexer (0: none)."""

    hidden: int
    heads: int
    q_rank: int
    kv_rank: int
    nope: int
    rope: int
    value: int
    index_heads: int = 0
    index_size: int = 0


def latent(text: Reader) -> Latent:
    """Read the shape of MLA; raises RackhandError."""
    return Latent(
        hidden=text.size("hidden_size"),
        heads=text.size("num_attention_heads"),
        q_rank=text.count("q_lora_rank"),
        kv_rank=text.size("kv_lora_rank"),
        nope=text.size("qk_nope_head_dim"),
        rope=text.size("qk_rope_head_dim"),
        value=text.size("v_head_dim"),
        index_heads=text.size("index_n_heads", default=64) if "index_topk" in text else 0,
        index_size=text.size("index_head_dim", default=128) if "index_topk" in text else 0,
    )


def latent_groups(shape: Latent) -> Iterator[LayerGroup]:
    """Yield what one layer of MLA keeps: one vector per token for all heads, and the indexer's key."""
    yield LayerGroup(attention=Attention.MLA, layers=1, kv_heads=1, key_size=shape.kv_rank + shape.rope)
    if shape.index_size:
        # One byte to an element and a 4-byte scale to 128 of them, whatever the cache's type; here in 16-bit elements.
        kept = shape.index_size + 4 * (shape.index_size // 128)
        yield LayerGroup(attention=Attention.MLA, layers=1, kv_heads=1, key_size=-(-kept // 2))


def compressed(shape: Latent, prefix: str) -> Iterator[Matrix]:
    """Yield the weights of one layer of multi-head latent attention."""
    queries = shape.heads * (shape.nope + shape.rope)
    if shape.q_rank:
        yield Matrix("latent", f"{prefix}.q_a_proj", shape.q_rank, shape.hidden)
        yield Matrix("attention", f"{prefix}.q_b_proj", queries, shape.q_rank)
        yield Matrix("norms", f"{prefix}.q_a_layernorm", shape.q_rank)
    else:
        yield Matrix("attention", f"{prefix}.q_proj", queries, shape.hidden)
    yield Matrix("latent", f"{prefix}.kv_a_proj_with_mqa", shape.kv_rank + shape.rope, shape.hidden)
    yield Matrix("norms", f"{prefix}.kv_a_layernorm", shape.kv_rank)
    yield Matrix("attention", f"{prefix}.kv_b_proj", shape.heads * (shape.nope + shape.value), shape.kv_rank)
    yield Matrix("attention", f"{prefix}.o_proj", shape.hidden, shape.heads * shape.value)
    # vLLM keeps a packed up-projection again in 16 bits, for decoding (layers/attention/mla_attention.py in 0.26.0).
    again = f"{prefix}.kv_b_proj.again"
    yield Matrix("latent-copies", again, shape.heads * (shape.nope + shape.value), shape.kv_rank, copied=True)
    if shape.index_heads:
        yield from _indexer(shape, f"{prefix}.indexer")


def _indexer(shape: Latent, prefix: str) -> Iterator[Matrix]:
    yield Matrix("latent", f"{prefix}.wq_b", shape.index_heads * shape.index_size, shape.q_rank or shape.hidden)
    # vLLM fuses these two and keeps them in 16 bits whatever the checkpoint stores.
    yield Matrix("router", f"{prefix}.wk", shape.index_size, shape.hidden)
    yield Matrix("router", f"{prefix}.weights_proj", shape.index_heads, shape.hidden)
    yield Matrix("norms", f"{prefix}.k_norm", 2 * shape.index_size)
