"""How families of models differ where config.json is silent: biases, norms, gates, defaults of their keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# True, False, or the key of config.json that says it.
Trait = bool | str


class QkNorm(StrEnum):
    """What queries and keys are normed over: a head's elements, all heads together, or each head with its own weights."""

    NONE = "none"
    HEAD = "head"
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of decoder as vLLM 0.26 builds it.

    `norms` is their number in a layer, `pattern` the repeating order of attention kinds where config.json has no
    `layer_types` (s: sliding, f: full), `output_gate` doubles the query projection.
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
    lm_head_bias: bool = False
    router_bias: Trait = False
    correction_bias: Trait = False
    expert_bias: bool = False
    shared_gate: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


NO_BIAS = {"qkv_bias": False, "output_bias": False, "mlp_bias": False}

LLAMA = Family()
GEMMA = Family(tied=True, defaults={"head_dim": 256})
DEEPSEEK = Family(**NO_BIAS, correction_bias=False, sliding=False)

FAMILIES = {
    "llama": LLAMA,
    "mistral": Family(**NO_BIAS),
    "mixtral": Family(**NO_BIAS, defaults={"num_local_experts": 8, "num_experts_per_tok": 2}),
    "qwen2": Family(qkv_bias=True, output_bias=False, mlp_bias=False),
    "qwen2_moe": Family(qkv_bias=True, output_bias=False, mlp_bias=False, shared_gate=True),
    "qwen3": Family(output_bias=False, mlp_bias=False, qk_norm=QkNorm.HEAD),
    "qwen3_moe": Family(output_bias=False, mlp_bias=False, qk_norm=QkNorm.HEAD),
    "deepseek_v2": DEEPSEEK,
    "deepseek_v3": Family(**NO_BIAS, correction_bias=True, sliding=False),
}
