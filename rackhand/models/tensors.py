"""Which part of a model a tensor of its checkpoint belongs to, by its name, and which tensors vLLM skips."""

import re
from typing import NamedTuple

from rackhand.models.spec import ModelSpec


class Tensor(NamedTuple):
    """One entry of a safetensors header: its type as safetensors names it, its shape, its bytes."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


FUSED = "fused"  # queries, keys and values in one tensor
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
TOWER = re.compile(
    r"(^|\.)(visual|vision\w*|vit|multi_modal_projector|mm_projector|mlp1|patch_merger|aligner|embed_vision"
    r"|image_newline|audio\w*|embed_audio|speech\w*)(\.|$)"
)
AUDIO = re.compile(r"(^|\.)(audio\w*|embed_audio|speech\w*)(\.|$)")
DRAFT = re.compile(r"(^|\.)(mtp|nextn|eagle|draft)(\.|_)")
# The first that fits tells the part.
RULES = tuple(
    (re.compile(pattern), part)
    for pattern, part in (
        (r"(embed_positions|wpe)\.", "embeddings-of-positions"),
        (r"embed_tokens_per_layer\.", "embeddings-per-layer"),
        (r"(embed_tokens|wte|word_embeddings|tok_embeddings|embed_in|embeddings)\.", "embeddings"),
        (r"(^|\.)(lm_head|embed_out)\.|^output\.", "lm_head"),
        (r"shared_experts?_gate|router(\.|$)|\.gate\.|e_score_correction_bias|expert_bias|per_expert_scale", "router"),
        (r"shared_experts?\.|shared_mlp\.", "shared-experts"),
        (r"\.experts(\.|$)", "experts"),
        (r"(linear_attn|mamba|mixer)\.(in_proj\w*|out_proj|x_proj|dt_proj)\.", "state"),
        (r"(linear_attn|mamba|mixer)\.(conv1d|A_log|D|dt_bias|norm)", "state-vectors"),
        (r"indexer\.(wk|weights_proj)\.", "router"),
        (r"(q_a_proj|kv_a_proj\w*|indexer\.wq_b|per_layer_input_gate|per_layer_projection)\.", "latent"),
        (r"(norm\w*|ln_\w+|layer_scalar)(\.weight|\.bias)?$", "norms"),
        (r"(o_proj|down_proj|dense|dense_4h_to_h|fc2|c_proj|wo|w2)\.bias$", "norms"),
        (r"(\.bias|\.sinks)$", "biases"),
        (r"\.(k_proj|v_proj)\.", "key-value"),
        (r"\.(qkv_proj|query_key_value|Wqkv|wqkv|c_attn)\.", FUSED),
        (r"(self_attn|self_attention|attention|attn|mixer)\.(?!up_proj|down_proj)", "attention"),
        (r"(mlp|feed_forward|ffn|mixer)\.|\.fc[12]\.", "mlp"),
    )
)


def skipped(name: str, spec: ModelSpec) -> bool:
    """Say whether vLLM leaves a tensor out: layers for speculation, buffers, and an output layer that is tied."""
    if TOWER.search(name):
        return False
    layer = LAYER.search(name)
    beyond = layer is not None and int(layer.group(1)) >= spec.layers
    tied = spec.tied_embeddings and name.endswith("lm_head.weight")
    return beyond or tied or bool(DRAFT.search(name)) or name.endswith("rotary_emb.inv_freq")


def part_of(name: str, tensor: Tensor) -> str:
    """Return the name of a tensor's part, FUSED for queries, keys and values in one."""
    if TOWER.search(name):
        return _tower(name, tensor)
    found = next((part for pattern, part in RULES if pattern.search(name)), "norms")
    return "final-norm" if found == "norms" and not LAYER.search(name) else found


def _tower(name: str, tensor: Tensor) -> str:
    if AUDIO.search(name):
        return "audio"
    if len(tensor.shape) < 2 or "norm" in name:
        return "vision-whole"
    return "vision" if "embed" in name or "conv" in name else "vision-linear"
