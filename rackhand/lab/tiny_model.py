"""A real but tiny Llama for practice hosts, written with the standard library alone and the same bytes every time.

Two layers, hidden size 64, a byte-level tokenizer without merges: a few hundred kB that a real vLLM loads and serves.
`head_dim=16` is the negative variant: the CPU engine starts healthy on it and dies at its first completion.
"""

import array
import hashlib
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

HIDDEN = 64
INTERMEDIATE = 128
LAYERS = 2
HEADS = 2
KV_HEADS = 1
VOCABULARY = 320
MAX_POSITIONS = 65536
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")
INIT_DEVIATION = 0.02

Shape = tuple[int, ...]


def build(dest: Path, head_dim: int = 32) -> Path:
    """Write the model's five files into `dest`, made where missing, and return it."""
    dest.mkdir(parents=True, exist_ok=True)
    for name, document in _documents(head_dim).items():
        (dest / name).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (dest / "model.safetensors").write_bytes(_safetensors(head_dim))
    return dest


def checksums(model: Path) -> dict[str, str]:
    """Digest every file of a model directory: {file name: sha256 in hex}."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(model.iterdir())}


def _documents(head_dim: int) -> dict[str, dict[str, object]]:
    return {
        "config.json": _config(head_dim),
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": _tokenizer_config(),
    }


def _config(head_dim: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 1,
        "dtype": "float32",
        "eos_token_id": 2,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": INIT_DEVIATION,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": MAX_POSITIONS,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "vocab_size": VOCABULARY,
    }


def _tokenizer() -> dict[str, object]:
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *_byte_symbols()))}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": False, "vocab": vocabulary, "merges": []}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(),
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": model,
    }


def _added_tokens() -> list[dict[str, object]]:
    return [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, token in enumerate(SPECIAL_TOKENS)
    ]


def _tokenizer_config() -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_POSITIONS,
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "clean_up_tokenization_spaces": False,
        "chat_template": ("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"),
    }


def _byte_symbols() -> list[str]:
    """Name the 256 bytes as byte-level BPE does: printable Latin-1 as itself, the rest from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    substitutes = (chr(0x100 + offset) for offset in range(256))
    return sorted(chr(byte) if byte in printable else next(substitutes) for byte in range(256))


def _tensor_shapes(head_dim: int) -> Iterator[tuple[str, Shape]]:
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        block = f"model.layers.{layer}"
        yield f"{block}.input_layernorm.weight", (HIDDEN,)
        yield f"{block}.self_attn.q_proj.weight", (HEADS * head_dim, HIDDEN)
        yield f"{block}.self_attn.k_proj.weight", (KV_HEADS * head_dim, HIDDEN)
        yield f"{block}.self_attn.v_proj.weight", (KV_HEADS * head_dim, HIDDEN)
        yield f"{block}.self_attn.o_proj.weight", (HIDDEN, HEADS * head_dim)
        yield f"{block}.post_attention_layernorm.weight", (HIDDEN,)
        yield f"{block}.mlp.gate_proj.weight", (INTERMEDIATE, HIDDEN)
        yield f"{block}.mlp.up_proj.weight", (INTERMEDIATE, HIDDEN)
        yield f"{block}.mlp.down_proj.weight", (HIDDEN, INTERMEDIATE)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def _safetensors(head_dim: int) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, shape in _tensor_shapes(head_dim):
        data = _weights(name, shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(body)


def _weights(name: str, shape: Shape) -> bytes:
    """Draw one tensor: norms are ones, the rest uniform with the standard deviation Llama is initialised with."""
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    if name.endswith("norm.weight"):
        values = array.array("f", [1.0]) * count
    else:
        source, reach = random.Random(name), INIT_DEVIATION * 3**0.5
        values = array.array("f", ((2 * source.random() - 1) * reach for _ in range(count)))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
