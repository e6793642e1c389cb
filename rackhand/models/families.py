"""How families of models differ where config.json is silent: biases, norms, gates, defaults of their keys.

Read from the model classes of vLLM 0.26.0; keys that a family's configuration class fills in are in `defaults`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

# True, False, or the key of config.json that says it.
Trait = bool | str


class QkNorm(StrEnum):
    """What queries and keys are normed over: the elements of one head, or all heads, each with weights of its own."""

    NONE = "none"
    HEAD = "head"
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of decoder.

    `norms` is their number in a layer, `pattern` the repeating order of attention kinds where config.json has no
    `layer_types` (s: sliding, f: full, l: linear), `output_gate` doubles the query projection, `sliding` says whether
    vLLM heeds `sliding_window` at all, `positions` the learned positions beyond the context (None: there are none).
    """

    qkv_bias: Trait = "attention_bias"
    output_bias: Trait = "attention_bias"
    mlp_bias: Trait = "mlp_bias"
    gated_mlp: bool = True
    norms: int = 2
    norm_bias: bool = False
    qk_norm: QkNorm = QkNorm.NONE
    qk_norm_key: str = ""
    tied: bool = False
    pattern: str = ""
    sliding: bool = True
    output_gate: bool = False
    sinks: bool = False
    lm_head_bias: Trait = False
    router_bias: bool = False
    correction_bias: bool = False
    expert_bias: bool = False
    shared_gate: bool = False
    positions: int | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)


LLAMA = Family()
PLAIN = Family(qkv_bias=False, output_bias=False, mlp_bias=False)
QWEN2 = replace(PLAIN, qkv_bias=True)
QWEN3 = replace(PLAIN, qkv_bias="attention_bias", qk_norm=QkNorm.HEAD)
QWEN3_NEXT = replace(QWEN3, output_gate=True, shared_gate=True, pattern="lllf", defaults={"head_dim": 256})
LATENT = replace(PLAIN, sliding=False)
DEEPSEEK_V3 = replace(LATENT, correction_bias=True)
GEMMA = replace(PLAIN, tied=True, defaults={"head_dim": 256, "vocab_size": 256000, "max_position_embeddings": 8192})
GEMMA3_DEFAULTS = {
    "head_dim": 256,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "max_position_embeddings": 131072,
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "sliding_window": 4096,
    "vocab_size": 262208,
}
GEMMA3 = replace(
    GEMMA,
    qkv_bias="attention_bias",
    output_bias="attention_bias",
    norms=4,
    qk_norm=QkNorm.HEAD,
    pattern="sssssf",
    defaults=GEMMA3_DEFAULTS,
)
COHERE = replace(
    PLAIN,
    qkv_bias="attention_bias",
    output_bias="attention_bias",
    norms=1,
    tied=True,
    qk_norm=QkNorm.ALL,
    qk_norm_key="use_qk_norm",
)
GRANITE_MOE = replace(LLAMA, mlp_bias=False)
GLM4_MOE = replace(
    QWEN2, qkv_bias="attention_bias", qk_norm=QkNorm.HEAD, qk_norm_key="use_qk_norm", correction_bias=True
)
BIASED = Family(qkv_bias=True, output_bias=True, mlp_bias=True, gated_mlp=False, norm_bias=True, tied=True)

FAMILIES = {
    "llama": LLAMA,
    "llama4_text": replace(
        PLAIN, qkv_bias="attention_bias", output_bias="attention_bias", sliding=False, defaults={"head_dim": 128}
    ),
    "mistral": PLAIN,
    "ministral3": PLAIN,
    "mixtral": replace(PLAIN, defaults={"num_local_experts": 8, "num_experts_per_tok": 2}),
    "qwen2": QWEN2,
    "qwen2_vl": QWEN2,
    "qwen2_vl_text": QWEN2,
    "qwen2_5_vl": QWEN2,
    "qwen2_5_vl_text": QWEN2,
    "mimo": QWEN2,
    "qwen2_moe": replace(QWEN2, shared_gate=True),
    "qwen3": QWEN3,
    "qwen3_moe": QWEN3,
    "qwen3_vl_text": QWEN3,
    "qwen3_vl_moe_text": QWEN3,
    "qwen3_next": QWEN3_NEXT,
    "qwen3_5": QWEN3_NEXT,
    "qwen3_5_moe": QWEN3_NEXT,
    "qwen3_5_text": QWEN3_NEXT,
    "qwen3_5_moe_text": QWEN3_NEXT,
    "gemma": GEMMA,
    "gemma2": replace(
        GEMMA,
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        norms=4,
        pattern="sf",
        defaults={**GEMMA.defaults, "sliding_window": 4096},
    ),
    "gemma3_text": GEMMA3,
    "gemma4_text": replace(
        GEMMA3, defaults={"global_head_dim": 512, "head_dim": 256, "sliding_window": 512, "vocab_size": 262144}
    ),
    "phi": replace(BIASED, norms=1, lm_head_bias=True, tied=False),
    "phi3": PLAIN,
    "phimoe": replace(
        PLAIN, qkv_bias="attention_bias", output_bias="attention_bias", norm_bias=True, lm_head_bias="lm_head_bias"
    ),
    "falcon": replace(
        PLAIN, qkv_bias="bias", output_bias="bias", mlp_bias="bias", gated_mlp=False, norm_bias=True, tied=True
    ),
    "starcoder2": replace(
        PLAIN,
        qkv_bias="use_bias",
        output_bias="use_bias",
        mlp_bias="use_bias",
        gated_mlp=False,
        norm_bias=True,
        tied=True,
        defaults={"use_bias": True},
    ),
    "deepseek_v2": LATENT,
    "deepseek_v3": DEEPSEEK_V3,
    "deepseek_v32": DEEPSEEK_V3,
    "kimi_k2": DEEPSEEK_V3,
    "glm_moe_dsa": DEEPSEEK_V3,
    "glm4_moe_lite": DEEPSEEK_V3,
    "gpt_oss": replace(
        LLAMA,
        mlp_bias=False,
        pattern="sf",
        sinks=True,
        router_bias=True,
        expert_bias=True,
        defaults={"attention_bias": True, "head_dim": 64, "sliding_window": 128},
    ),
    "glm": replace(QWEN2, qkv_bias="attention_bias"),
    "glm4": replace(QWEN2, qkv_bias="attention_bias", norms=4),
    "glm4v_text": replace(QWEN2, qkv_bias="attention_bias", norms=4, defaults={"attention_bias": True}),
    "glm4_moe": GLM4_MOE,
    "glm4v_moe_text": GLM4_MOE,
    "cohere": replace(COHERE, sliding=False),
    "cohere2": replace(COHERE, qk_norm=QkNorm.NONE, pattern="sssf", defaults={"sliding_window": 4096}),
    "granite": LLAMA,
    "granitemoe": GRANITE_MOE,
    "granitemoeshared": GRANITE_MOE,
    "granitemoehybrid": GRANITE_MOE,
    "nemotron": replace(LLAMA, gated_mlp=False, norm_bias=True),
    "nemotron_h": replace(LLAMA, gated_mlp=False, norms=1, correction_bias=True, sliding=False),
    "jamba": PLAIN,
    "minimax_m2": replace(
        QWEN2,
        qkv_bias="attention_bias",
        qk_norm=QkNorm.ALL,
        qk_norm_key="use_qk_norm",
        correction_bias=True,
        defaults={"use_qk_norm": True},
    ),
    "olmo2": replace(LLAMA, qk_norm=QkNorm.ALL),
    "olmo3": replace(LLAMA, qk_norm=QkNorm.ALL),
    "olmoe": replace(PLAIN, qk_norm=QkNorm.ALL),
    "exaone4": replace(LLAMA, qk_norm=QkNorm.HEAD),
    "seed_oss": replace(LLAMA, output_bias="attention_out_bias", defaults={"attention_bias": True}),
    "ernie4_5": replace(LLAMA, qkv_bias="use_bias", output_bias="use_bias", mlp_bias="use_bias", tied=True),
    "ernie4_5_moe": replace(PLAIN, qkv_bias="use_bias", mlp_bias="use_bias", correction_bias=True, tied=True),
    "internlm2": replace(LLAMA, qkv_bias="bias", output_bias="bias", mlp_bias=False),
    "internlm3": replace(LLAMA, qkv_bias="qkv_bias", output_bias="bias", mlp_bias="bias"),
    "smollm3": LLAMA,
    "arcee": replace(LLAMA, gated_mlp=False),
    "apertus": replace(LLAMA, gated_mlp=False, qk_norm=QkNorm.HEAD),
    "hunyuan_v1_dense": replace(LLAMA, qk_norm=QkNorm.HEAD, qk_norm_key="use_qk_norm"),
    "stablelm": replace(PLAIN, qkv_bias="use_qkv_bias", norm_bias=True),
    "opt": replace(BIASED, positions=2),
    "gpt2": replace(BIASED, positions=0),
    "gpt_neox": replace(
        BIASED, qkv_bias="attention_bias", output_bias="attention_bias", tied=False, defaults={"attention_bias": True}
    ),
}

# Decoders with layers that rackhand does not know; the usual keys would give a wrong sum.
STRANGE = frozenset(
    {
        "bailing_hybrid",
        "bamba",
        "deepseek_v4",
        "falcon_h1",
        "falcon_mamba",
        "gemma3n",
        "gemma3n_text",
        "kimi_linear",
        "lfm2",
        "lfm2_moe",
        "longcat_flash",
        "mamba",
        "mamba2",
        "minimax",
        "minimax_m1",
        "minimax_text_01",
        "nemotron-nas",
        "olmo_hybrid",
        "plamo2",
        "zamba2",
    }
)
