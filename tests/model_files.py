"""A small decoder as files: its config.json, and safetensors with real headers and no data behind them."""

import json
import struct
from collections.abc import Mapping

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 320,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
SIZES = {"BF16": 2, "F32": 4, "I32": 4, "F8_E4M3": 1}
LAYER = {
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (32, 64),
    "self_attn.v_proj": (32, 64),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (128, 64),
    "mlp.up_proj": (128, 64),
    "mlp.down_proj": (64, 128),
    "input_layernorm": (64,),
    "post_attention_layernorm": (64,),
}
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


def shapes(dtype: str = "BF16", layers: int = 2) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return every tensor of the model as (type, shape)."""
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (320, 64),
        "model.norm.weight": (64,),
        "lm_head.weight": (320, 64),
    }
    for layer in range(layers):
        found |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in LAYER.items()}
    return {name: (dtype, shape) for name, shape in found.items()}


def header(tensors: Shapes) -> bytes:
    """Return the beginning of a safetensors file."""
    table, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        count = SIZES[dtype]
        for size in shape:
            count *= size
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + count]}
        offset += count
    raw = json.dumps({"__metadata__": {"format": "pt"}, **table}).encode()
    return struct.pack("<Q", len(raw)) + raw


def index(tensors: Shapes, total: int | None = None) -> bytes:
    """Return a model.safetensors.index.json; the sum is that of the shapes unless it is given."""
    summed = sum(SIZES[dtype] * _count(shape) for dtype, shape in tensors.values())
    mapped = dict.fromkeys(tensors, "model-00001-of-00002.safetensors")
    return json.dumps({"metadata": {"total_size": total or summed}, "weight_map": mapped}).encode()


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
